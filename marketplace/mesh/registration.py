"""Registering a node: its operator's wallet and its endpoint both answer a challenge."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, When
from django.db.models.functions import Now

from inframind.identity.models import Wallet
from inframind.identity.signatures import signer_of
from inframind.lib.problem import Problem, Violation
from inframind.storage.guard import UrlRefused, check_public_url
from marketplace.mesh import client, control
from marketplace.mesh.modelconfig import RUNNERS
from marketplace.mesh.models import Node, NodeChallenge
from marketplace.mesh.secrets import seal
from marketplace.mesh.tensors import Tensor

LIFETIME: Final = timedelta(minutes=10)
OPEN_CHALLENGES: Final = 5
_PROOF_SECONDS: Final = 20.0
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,60}", re.ASCII)


@dataclass(frozen=True)
class NodeOffer:
    """What an operator says about a node."""

    name: str
    control_header: str
    control_secret: str = field(repr=False)
    metrics_endpoint: str = ""
    grpc_endpoint: str = ""
    capacity: int = 8
    gpu_count: int = 0
    privacy_runtimes: tuple[str, ...] = ()
    accepts_publisher_code: bool = False
    isolation: str = ""


def challenge_text(challenge: NodeChallenge) -> str:
    """The exact text that the operator's wallet signs (EIP-191)."""
    return (
        f"{urlsplit(settings.SITE_URL).netloc} asks you to prove that you operate a node.\n\n"
        f"Wallet: {challenge.operator_id}\n"
        f"Endpoint: {challenge.endpoint}\n"
        f"Nonce: {challenge.nonce}\n"
        f"Valid until: {challenge.expires_at:%Y-%m-%dT%H:%M:%SZ}"
    )


@transaction.atomic
def issue_challenge(*, operator: Wallet, endpoint: str) -> NodeChallenge:
    """A challenge for this wallet and endpoint. Raises a 422 or 429 ``Problem``."""
    endpoint = _checked_endpoint(endpoint, "/endpoint")
    waiting = NodeChallenge.objects.filter(operator=operator, used_at=None, expires_at__gt=Now())
    if waiting.count() >= OPEN_CHALLENGES:
        raise Problem(
            "too-many-challenges",
            f"This wallet has {OPEN_CHALLENGES} open challenges.",
            status=429,
            remedy="Answer one of them, or wait until they expire.",
            retry_safe=True,
            retry_after_seconds=int(LIFETIME.total_seconds()),
        )
    challenge = NodeChallenge.objects.create(
        operator=operator,
        endpoint=endpoint,
        nonce=secrets.token_hex(32),
        expires_at=Now() + LIFETIME,
    )
    challenge.refresh_from_db()
    return challenge


def register_node(*, operator: Wallet, nonce: str, signature: str, offer: NodeOffer) -> Node:
    """Registers the node once wallet and endpoint have answered the challenge.

    The endpoint proves itself by serving a model that only the holder of its control secret could
    load. Nothing is kept of a refused registration, the challenge excepted: it can be answered
    once. Raises ``Problem`` 404, 409, 410, 422.
    """
    _check_offer(offer)
    challenge = _use(operator, nonce)
    _check_signature(challenge, signature)
    for name, url in (("grpc", offer.grpc_endpoint), ("metrics", offer.metrics_endpoint)):
        _check_beside(challenge, f"/{name}_endpoint", url)
    # The name may lead elsewhere than a minute ago.
    _checked_endpoint(challenge.endpoint, "/endpoint")
    backends = _prove_endpoint(challenge, offer)
    return _save(challenge, offer, backends)


def _checked_endpoint(url: str, pointer: str) -> str:
    try:
        found = check_public_url(url, allow_loopback=settings.ALLOW_LOOPBACK_NODES)
    except UrlRefused as error:
        raise _invalid(pointer, str(error)) from None
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _invalid(
            pointer, "Give scheme, host and port only, like https://node.example.org:8000."
        )
    host = f"[{found.host}]" if ":" in found.host else found.host
    return f"{found.scheme}://{host}:{found.port}"


def _check_offer(offer: NodeOffer) -> None:
    if _NAME.fullmatch(offer.name) is None:
        raise _invalid("/name", "Use 1 to 63 lower-case letters, digits and hyphens.")
    if _HEADER.fullmatch(offer.control_header) is None:
        raise _invalid("/control_header", "Name the header that guards model control.")
    if not 16 <= len(offer.control_secret) <= 200 or not offer.control_secret.isprintable():
        raise _invalid("/control_secret", "Use a secret of 16 to 200 printable characters.")
    if not 1 <= offer.capacity <= 1024:
        raise _invalid("/capacity", "Give the calls at once that the node takes, from 1 to 1024.")
    if not 0 <= offer.gpu_count <= 64:
        raise _invalid("/gpu_count", "Give the number of GPUs, from 0 to 64.")
    if len(offer.isolation) > 200:
        raise _invalid("/isolation", "Describe it in at most 200 characters.")
    if offer.accepts_publisher_code and not offer.isolation:
        raise _invalid("/isolation", "Say how publisher code is confined on this node.")
    if set(offer.privacy_runtimes) - {"enclave", "zkml"}:
        raise _invalid("/privacy_runtimes", "Known privacy runtimes are enclave and zkml.")


def _check_beside(challenge: NodeChallenge, pointer: str, url: str) -> None:
    """Packages go to these too, and only the endpoint's host has proved itself."""
    if not url:
        return
    try:
        found = check_public_url(url, allow_loopback=settings.ALLOW_LOOPBACK_NODES)
    except UrlRefused as error:
        raise _invalid(pointer, str(error)) from None
    if found.host != urlsplit(challenge.endpoint).hostname:
        raise _invalid(pointer, "It must be on the same host as the endpoint.")


@transaction.atomic
def _use(operator: Wallet, nonce: str) -> NodeChallenge:
    challenge = (
        NodeChallenge.objects.select_for_update()
        .annotate(expired=Case(When(expires_at__lte=Now(), then=True), default=False))
        .filter(operator=operator, nonce=nonce)
        .first()
    )
    if challenge is None:
        raise Problem(
            "unknown-challenge",
            "This wallet has no challenge with this nonce.",
            status=404,
            remedy="Ask for a challenge at POST /api/v1/nodes/challenge.",
        )
    if challenge.used_at is not None or challenge.expired:
        raise Problem(
            "challenge-spent",
            "This challenge has been answered already or has expired.",
            status=410,
            remedy="Ask for a new challenge.",
        )
    NodeChallenge.objects.filter(pk=challenge.pk).update(used_at=Now())
    return challenge


def _check_signature(challenge: NodeChallenge, signature: str) -> None:
    try:
        signer = signer_of(challenge_text(challenge), signature)
    except ValueError as error:
        raise _invalid("/signature", f"EIP-191 over the text is needed: {error}.") from None
    if signer != challenge.operator_id:
        raise _invalid(
            "/signature", f"The challenge was signed by {signer}, not by {challenge.operator_id}."
        )


def _prove_endpoint(challenge: NodeChallenge, offer: NodeOffer) -> list[str]:
    address = client.Address(challenge.endpoint, "", offer.control_header, offer.control_secret)
    model = f"c_{challenge.nonce[:32]}"
    config = {
        "name": model,
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "document", "data_type": "TYPE_STRING", "dims": [1]}],
        "output": [{"name": "document", "data_type": "TYPE_STRING", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": {"nonce": {"string_value": challenge.nonce}},
    }
    program = (RUNNERS / "challenge.py").read_bytes()
    salt = secrets.token_hex(8)
    question = Tensor("document", "BYTES", (1,), [salt.encode()])
    try:
        client.metadata(address)
        if control.control_is_open(address):
            raise _unproven(
                "The server lets anyone load and unload models.",
                "Start Triton with --http-restricted-api=model-repository:<header>=<secret> and "
                "the same for --grpc-restricted-protocol.",
            )
        control.load(
            address,
            model,
            config_json=json.dumps(config),
            files=[control.File("1/model.py", iter([program]))],
            timeout_seconds=_PROOF_SECONDS,
        )
        try:
            (answer,) = client.infer_once(address, model, [question], timeout_seconds=5.0)
        finally:
            control.unload(address, model)
    except (client.NodeError, ValueError) as error:
        raise _unproven(
            f"The endpoint did not answer the challenge: {error}",
            "The server must be Triton with its Python backend, model control mode explicit, and "
            "this control header and secret.",
        ) from None
    given = b"".join(answer.texts)
    if not hmac.compare_digest(given, f"{challenge.nonce} {salt}".encode()):
        raise _unproven("The endpoint gave a wrong answer to the challenge.", "Try again.")
    return ["python"]


@transaction.atomic
def _save(challenge: NodeChallenge, offer: NodeOffer, backends: list[str]) -> Node:
    try:
        with transaction.atomic():
            return Node.objects.create(
                name=offer.name,
                operator_id=challenge.operator_id,
                endpoint=challenge.endpoint,
                grpc_endpoint=offer.grpc_endpoint,
                metrics_endpoint=offer.metrics_endpoint,
                control_header=offer.control_header,
                control_secret_sealed=seal(offer.control_secret),
                backends=backends,
                gpu_count=offer.gpu_count,
                privacy_runtimes=list(offer.privacy_runtimes),
                capacity=offer.capacity,
                accepts_publisher_code=offer.accepts_publisher_code,
                isolation=offer.isolation,
                state=Node.State.READY,
                ready_at=Now(),
            )
    except IntegrityError:
        raise Problem(
            "node-taken",
            f"A node called {offer.name} or at {challenge.endpoint} is registered already.",
            status=409,
            remedy="Choose another name, or ask staff to remove the old registration.",
        ) from None


def _unproven(detail: str, remedy: str) -> Problem:
    return Problem(
        "endpoint-unproven", detail, status=422, remedy=f"{remedy} Then ask for a new challenge."
    )


def _invalid(pointer: str, detail: str) -> Problem:
    return Problem(
        "invalid-node",
        "The node cannot be registered like this.",
        status=422,
        violations=(Violation(pointer, detail),),
        remedy="Correct what the violation points to.",
    )
