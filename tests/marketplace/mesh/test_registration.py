"""A node joins when its operator's wallet and its endpoint have both proved themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from eth_account import Account
from eth_account.messages import encode_defunct

from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from inframind.lib.problem import Problem
from marketplace.mesh import services
from marketplace.mesh.models import Node, NodeChallenge
from marketplace.mesh.registration import NodeOffer, challenge_text
from marketplace.mesh.secrets import unseal

pytestmark = pytest.mark.django_db

KEY = "0x" + "4c" * 32


@pytest.fixture
def operator() -> Wallet:
    return Wallet.objects.of(Account.from_key(KEY).address)


@pytest.fixture
def document(triton_nodes: list[dict[str, Any]], settings: Any) -> dict[str, Any]:
    """A running server that nobody has registered."""
    settings.ALLOW_LOOPBACK_NODES = True
    settings.TRITON_NODES = []
    return triton_nodes[0]


def offer_of(document: dict[str, Any]) -> NodeOffer:
    return NodeOffer("mine-1", document["control_header"], document["control_secret"])


def sign(text: str, key: str = KEY) -> str:
    return "0x" + bytes(Account.sign_message(encode_defunct(text=text), key).signature).hex()


def test_a_proven_node_is_registered_without_trust(
    operator: Wallet, document: dict[str, Any]
) -> None:
    challenge = services.issue_challenge(operator=operator, endpoint=document["endpoint"] + "/")

    node = services.register_node(
        operator=operator,
        nonce=challenge.nonce,
        signature=sign(challenge_text(challenge)),
        offer=offer_of(document),
    )

    assert (node.operator, node.endpoint) == (operator, document["endpoint"])
    assert (node.trusted, node.accepts_publisher_code, node.backends) == (False, False, ["python"])
    assert document["control_secret"].encode() not in bytes(node.control_secret_sealed)
    assert unseal(node.control_secret_sealed) == document["control_secret"]
    assert services.probe_all() == {"mine-1": True}


def test_a_challenge_is_answered_once(operator: Wallet, document: dict[str, Any]) -> None:
    challenge = services.issue_challenge(operator=operator, endpoint=document["endpoint"])
    signature = sign(challenge_text(challenge))

    def register(offer: NodeOffer) -> Node:
        return services.register_node(
            operator=operator, nonce=challenge.nonce, signature=signature, offer=offer
        )

    register(offer_of(document))
    with pytest.raises(Problem) as caught:
        register(replace(offer_of(document), name="mine-2"))
    assert caught.value.status == 410
    assert Node.objects.count() == 1


@pytest.mark.parametrize("wrong", ["signer", "text", "garbage", "secret"])
def test_an_unproven_node_is_refused(
    operator: Wallet, document: dict[str, Any], wrong: str
) -> None:
    challenge = services.issue_challenge(operator=operator, endpoint=document["endpoint"])
    text = challenge_text(challenge)
    signature = {
        "signer": sign(text, "0x" + "5d" * 32),
        "text": sign(text.replace("Endpoint", "endpoint")),
        "garbage": "0x1234",
        "secret": sign(text),
    }[wrong]
    offer = offer_of(document)
    if wrong == "secret":
        offer = replace(offer, control_secret="guessed-guessed-guessed")

    with pytest.raises(Problem) as caught:
        services.register_node(
            operator=operator, nonce=challenge.nonce, signature=signature, offer=offer
        )

    assert caught.value.status == 422
    assert not Node.objects.exists()


def test_an_expired_challenge_is_refused(operator: Wallet, document: dict[str, Any]) -> None:
    challenge = services.issue_challenge(operator=operator, endpoint=document["endpoint"])
    NodeChallenge.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(Problem) as caught:
        services.register_node(
            operator=operator,
            nonce=challenge.nonce,
            signature=sign(challenge_text(challenge)),
            offer=offer_of(document),
        )
    assert caught.value.status == 410


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:8000",
        "http://169.254.169.254",
        "http://10.0.0.5:8000",
        "http://[::1]:8000",
        "file:///etc/passwd",
        "http://8.8.8.8:8000/path",
    ],
)
def test_an_endpoint_that_leads_inside_is_refused(
    operator: Wallet, settings: Any, endpoint: str
) -> None:
    settings.ALLOW_LOOPBACK_NODES = False
    with pytest.raises(Problem) as caught:
        services.issue_challenge(operator=operator, endpoint=endpoint)
    assert caught.value.status == 422
    assert not NodeChallenge.objects.exists()


def test_the_whole_way_over_http(operator: Wallet, document: dict[str, Any]) -> None:
    _, token = mint_token(
        wallet=operator, name="t", actions=["manage"], lifetime=timedelta(hours=1)
    )
    client = Client(headers={"Authorization": f"Bearer {token}"})

    def post(path: str, body: Any) -> Any:
        return client.post(f"/api/v1/{path}", body, content_type="application/json")

    challenge = post("nodes/challenge", {"endpoint": document["endpoint"]}).json()
    answer = post(
        "nodes",
        {
            "nonce": challenge["nonce"],
            "signature": sign(challenge["text"]),
            "name": "mine-1",
            "control_header": document["control_header"],
            "control_secret": document["control_secret"],
        },
    )

    assert answer.status_code == 201, answer.content
    listed = Client().get("/api/v1/nodes").json()["nodes"]
    assert [node["name"] for node in listed] == ["mine-1"]
    assert document["control_secret"] not in Client().get("/api/v1/nodes").content.decode()


def test_joining_needs_a_token_that_manages(document: dict[str, Any]) -> None:
    answer = Client().post(
        "/api/v1/nodes/challenge", {"endpoint": "http://8.8.8.8"}, content_type="application/json"
    )
    assert answer.status_code == 401


def test_packages_go_to_the_proven_host_only(operator: Wallet, document: dict[str, Any]) -> None:
    challenge = services.issue_challenge(operator=operator, endpoint=document["endpoint"])

    with pytest.raises(Problem) as caught:
        services.register_node(
            operator=operator,
            nonce=challenge.nonce,
            signature=sign(challenge_text(challenge)),
            offer=replace(offer_of(document), grpc_endpoint="http://8.8.8.8:8001"),
        )

    assert [each.pointer for each in caught.value.violations] == ["/grpc_endpoint"]
    assert not Node.objects.exists()
