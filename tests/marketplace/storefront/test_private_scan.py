"""Every public route answers a stranger the same, byte for byte, private model or none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from curation.lists.models import ShelfEntry
from curation.lists.services import refresh
from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import Model, Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node, Placement, Probe
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, PRIVATE, bearer
from tests.marketplace.unsigned import UNSIGNED

SECRET = "zugspitzkabine-one"
WORD = "zugspitzkabine"
CALL_ID = uuid4()
GUEST = "0x4444444444444444444444444444444444444444"
# Its figures are of the process: they count the requests of this very test.
COUNTING = {"/metrics"}
QUERIES = [
    f"/models?q={WORD}",
    f"/models?task={WORD}",
    "/models?sort=newest&view=rows",
    "/models?license=LicenseRef-Ours",
    f"/api/v1/models?q={WORD}",
    f"/api/v1/models?task={WORD}",
    "/api/v1/models?sort=newest&license=LicenseRef-Ours",
    "/collections/experimental",
    "/collections/agent-compatible",
    "/api/v1/collections/experimental",
    "/models/echo-text",
    "/models/echo-text?tab=versions",
    "/models/echo-text?tab=diagnostics",
    "/api/v1/models/echo-text",
    "/api/v1/models/echo-text/diagnostics",
    f"/receipts/{CALL_ID}",
    f"/api/v1/receipts/{CALL_ID}",
    *(
        path.format(SECRET)
        for path in (
            "/models/{}",
            "/models/{}/manage",
            "/models/{}?tab=evidence",
            "/api/v1/models/{}",
            "/api/v1/models/{}/versions/1.0.0",
            "/api/v1/models/{}/versions/1.0.0/verification",
            "/api/v1/models/{}/versions/1.0.0/package",
            "/api/v1/models/{}/package-key",
            "/api/v1/models/{}/diagnostics",
            "/api/v1/models/{}/nodes",
            "/api/v1/models/{}/access",
            "/api/v1/models/{}/access/history",
            "/api/v1/models/{}/access/requests",
            "/inference/v1/{}",
            "/inference/v1/{}@1.0.0",
        )
    ),
]


def plain_routes(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    """The addresses without parameters that there are, the admin portal's apart."""
    for each in patterns:
        path = f"{prefix}{each.pattern}"
        if "<" in path or "(?P" in path or path.startswith("/admin"):
            continue
        if isinstance(each, URLResolver):
            yield from plain_routes(each.url_patterns, path)
        else:
            yield path.replace("^", "").replace("$", "")


def routes() -> list[str]:
    return [*sorted(set(plain_routes(get_resolver().url_patterns)) - COUNTING), *QUERIES]


def told(
    client: Client, path: str, headers: dict[str, str], method: str = "get"
) -> tuple[int, str, str]:
    """Status, headers and body, without what differs from one request to the next."""
    sent = {"content_type": "application/json"} if method in ("post", "put", "patch") else {}
    answer = getattr(client, method)(path, headers=headers, **sent)
    body = b"".join(answer) if answer.streaming else answer.content
    text = body.decode().replace(answer.headers["X-Request-Id"], "ID")
    text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "CSRF", text)
    text = re.sub(r'("nonce": ?|Nonce: |name="nonce" value=")["\w]+', "NONCE", text)
    text = re.sub(r"<time [^>]*>[^<]*</time>", "TIME", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)", "TIME", text)
    text = re.sub(r"Issued At: .*|Expiration Time: .*", "TIME", text)
    varying = {"X-Request-Id", "Date", "Set-Cookie", "Expires", "Last-Modified"}
    kept = sorted((key, value) for key, value in answer.headers.items() if key not in varying)
    return answer.status_code, repr(kept), text


def seen(client: Client, headers: dict[str, str]) -> dict[str, tuple[int, str, str]]:
    return {path: told(client, path, headers) for path in routes()}


@pytest.mark.parametrize("who", ["anonymous", "token", "session"])
def test_no_route_tells_a_stranger_that_there_is_a_private_model(
    client: Client, activated: Publish, owner: Wallet, stranger: Wallet, who: str
) -> None:
    activated()
    activated(MANIFEST.replace("echo-text", "odd-one") + "stability: experimental\n")
    node = Node.objects.create(
        name="node-a", operator=owner, endpoint="http://a.example", state="ready", trusted=True
    )
    refresh()
    headers = bearer(stranger, "invoke", "manage", "read:usage") if who == "token" else {}
    if who == "session":
        client.force_login(stranger)
    client.get("/")
    before = seen(client, headers)
    assert {status for status, _, _ in before.values()} >= {200, 404}

    manifest = PRIVATE.replace("echo-text", SECRET).replace("text-generation", WORD)
    manifest = manifest.replace("MIT", "LicenseRef-Ours").replace("tags: [text]", f"tags: [{WORD}]")
    version = activated(manifest + "stability: experimental\n")
    _give_it_a_life(version, node, owner)
    refresh()
    # It stood on a shelf while it was public, in the midst of others.
    ShelfEntry.objects.filter(shelf="experimental").update(position=2)
    ShelfEntry.objects.create(
        shelf="experimental", position=1, model_id=SECRET, computed_at=timezone.now()
    )
    after = seen(client, headers)
    different = {path for path in before if before[path] != after[path]}
    assert different == set()
    measured = client.get("/metrics").content.decode()
    assert not any(word in measured for word in (WORD, version.cid, version.content_cid))


def test_the_scan_would_notice(client: Client, activated: Publish) -> None:
    """The negative control: a public model changes what many routes say."""
    activated()
    before = seen(client, {})
    activated(PRIVATE.replace("echo-text", SECRET))
    Model.objects.filter(pk=SECRET).update(public=True, auth_required=False, restricted=False)
    after = seen(client, {})
    different = {path for path in before if before[path] != after[path]}
    assert different >= {"/", "/models", "/api/v1/models", f"/models/{SECRET}"}


@pytest.mark.parametrize("who", ["anonymous", "token", "limited", "session"])
def test_no_method_or_header_tells_a_private_name_from_none(
    client: Client, activated: Publish, stranger: Wallet, who: str
) -> None:
    version = activated(PRIVATE.replace("echo-text", SECRET))
    # As long as the other: lengths are in headers, too.
    other, one = "nobody-has-this-it", f"/api/v1/models/{SECRET}"
    headers = bearer(stranger, "publish", "manage") if who == "token" else {}
    if who == "limited":
        headers = bearer(stranger, "publish", "manage", only=(SECRET, other))
    if who == "session":
        client.force_login(stranger)
    known = {"If-None-Match": f'"{version.content_cid}"', "Range": "bytes=0-1"}
    addresses = [path for path in QUERIES if SECRET in path and not path.startswith("/inference")]
    addresses += [
        *(f"{path}/" for path in addresses if "?" not in path),
        f"/models/{SECRET}?version=1.0.0",
        f"/models/{SECRET}/ask",
        f"{one}/access/entries",
        f"{one}/access/entries/{GUEST}",
        f"{one}/access/requests/{CALL_ID}",
        f"{one}/nodes/node-a",
        f"{one}/versions/1.0.0/deprecate",
        f"{one}/versions/1.0.0/terms",
    ]
    different = set()
    for path in addresses:
        for method in ("get", "head", "options", "post", "put", "patch", "delete"):
            about = told(client, path, {**headers, **known}, method)
            none = told(client, path.replace(SECRET, other), {**headers, **known}, method)
            if repr(about).replace(SECRET, "NAME") != repr(none).replace(other, "NAME"):
                different.add((method, path))
    assert different == set()


def _give_it_a_life(version: Version, node: Node, owner: Wallet) -> None:
    """Calls, a placement, a probe, a guest, a request, a deprecated other model that names it."""
    Placement.objects.create(version=version, node=node, state=Placement.State.READY)
    Probe.objects.create(version=version, node=node, ok=True, latency_us=1000)
    for call_id in (CALL_ID, uuid4()):
        Call.objects.create(
            id=call_id,
            version=version,
            wallet=owner,
            node=node,
            node_name=node.name,
            outcome=Call.Outcome.SERVED,
            latency_us=1000,
            node_latency_us=500,
            input_digest="sha256:00",
            output_digest="sha256:00",
            **UNSIGNED,
        )
    services.allow(
        model=version.model,
        guests=[Guest(GUEST, expires_at=timezone.now() + timedelta(days=1))],
        changed_by=owner,
    )
    services.ask(wallet=owner, name=version.model_id)
