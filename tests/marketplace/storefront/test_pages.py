"""The pages over HTTP: whole without JavaScript, in part for HTMX, silent about what is private."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client

from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from marketplace.catalog import services
from marketplace.catalog.models import Model, Version
from marketplace.gateway import loop
from marketplace.storefront import tryit
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, onnx_package
from tests.marketplace.holding import held_up

PRIVATE = MANIFEST.replace("name: echo-text", "name: secret-echo") + "access: {public: false}\n"
PAID = MANIFEST.replace("name: echo-text", "name: paid-echo") + (
    "pricing: {per_request_fee: 0.25 IFM}\n"
)
TABS = ["overview", "try-it", "api", "versions", "diagnostics", "evidence"]


@pytest.fixture
def gateway_loop(transactional_db: None) -> Iterator[None]:
    """The gateway's own threads see only what is committed, and end with the test's database."""
    yield
    loop.stop()


def _text(client: Client, address: str, status: int = 200, **headers: str) -> str:
    response = client.get(address, headers=headers)
    assert response.status_code == status, address
    return response.content.decode()


def test_every_page_is_whole_without_javascript(client: Client, activated: Publish) -> None:
    activated()
    addresses = ["/", "/models", "/models/featured", "/publish", "/nodes"]
    addresses += ["/models/echo-text", *(f"/models/echo-text?tab={tab}" for tab in TABS)]
    for address in addresses:
        page = _text(client, address)
        assert page.count("<h1") == 1, address
        assert '<main id="main"' in page


def test_a_model_page_says_all_that_a_listing_has(client: Client, activated: Publish) -> None:
    version = activated(PAID)
    page = _text(client, "/models/paid-echo")
    for fact in (
        version.cid,
        version.payout_address,
        version.model.owner_id,
        'data-base-units="250000000000000000"',
        "/inference/v1/paid-echo",
        "Schema validated",
        "MIT",
    ):
        assert fact in page
    api = unescape(_text(client, "/models/paid-echo?tab=api"))
    assert '"maxLength": 200' in api
    assert "curl " in api
    assert "httpx.post" in api
    assert "await fetch" in api


def test_a_model_page_says_that_answers_come_in_pieces(client: Client, activated: Publish) -> None:
    for version, costs in ((activated(), False), (activated(PAID), True)):
        page = f"/models/{version.model_id}"
        assert "in pieces" not in client.get(page).content.decode()
        Version.objects.filter(pk=version.pk).update(streaming=True)
        told = client.get(page).content.decode()
        assert "<dt>Answers</dt><dd>in pieces" in told
        assert ("ending them early costs the call" in told) is costs


def test_the_address_of_the_list_is_its_state(client: Client, activated: Publish) -> None:
    activated()
    activated(PAID)
    page = _text(client, "/models?price=paid")
    assert re.findall(r'<h2><a href="/models/([a-z-]+)"', page) == ["paid-echo"]
    assert 'aria-label="Remove price Paid per call"' in page
    searched = _text(client, "/models?q=nothing-like-this")
    assert searched.count("No model fits") == 1
    assert "Try another word, or see everything." in searched
    assert "Take one away, or see everything." in _text(
        client, "/models?q=nothing-like-this&task=ocr"
    )


@pytest.mark.parametrize(
    "query", ["page=0", "page=-1", "page=x", "page=99999999999", "sort=%00", "q=%00", "price=1"]
)
def test_a_list_address_that_cannot_be_meant_is_no_error(
    client: Client, activated: Publish, query: str
) -> None:
    activated()
    assert "echo-text" in _text(client, f"/models?{query}")


def test_htmx_gets_the_part_that_changes_and_caches_can_tell(
    client: Client, activated: Publish
) -> None:
    activated()
    response = client.get("/models?runtime=onnx", headers={"HX-Request": "true"})
    part = response.content.decode()
    assert "<html" not in part
    assert "echo-text" in part
    assert 'hx-swap-oob="innerHTML:#announce"' in part
    assert "HX-Request" in response.headers["Vary"]


def test_a_private_model_is_answered_like_one_that_does_not_exist(
    client: Client, activated: Publish, owner: Wallet
) -> None:
    activated(PRIVATE)
    refused = _text(client, "/models/secret-echo", status=404)
    unknown = _text(client, "/models/secret-echx", status=404)
    assert _plain(refused, "secret-echo") == _plain(unknown, "secret-echx")
    assert "if its owner gave you the name, ask them for access." in unknown
    assert "secret-echo" not in _text(client, "/models")
    client.force_login(owner)
    assert "secret-echo" in _text(client, "/models/secret-echo")


def _plain(page: str, name: str) -> str:
    return re.sub(r"<code>[0-9a-f]{32}</code>", "", page.replace(name, "NAME"))


def test_a_pending_version_is_seen_by_its_owner_alone(
    client: Client, publish: Publish, owner: Wallet
) -> None:
    publish()
    _text(client, "/models/echo-text", status=404)
    client.force_login(owner)
    assert "Waiting for its verification" in _text(client, "/models/echo-text")


def test_an_error_page_keeps_the_header_and_names_the_request(client: Client, db: None) -> None:
    response = client.get(f"/receipts/{uuid4()}", headers={"X-Request-Id": "abcdef0123456789"})
    page = response.content.decode()
    assert response.status_code == 404
    assert '<nav class="nav"' in page
    assert "abcdef0123456789" in page
    assert "Nothing was charged." in page


@pytest.mark.usefixtures("gateway_loop")
def test_a_refused_input_stands_beside_its_field(client: Client, activated: Publish) -> None:
    activated()
    page = unescape(
        client.post("/models/echo-text?tab=try-it", {"f/text": "x" * 201}).content.decode()
    )
    assert 'aria-invalid="true"' in page
    assert 'id="field-text-error"' in page
    assert "Nothing was charged." in page


@pytest.mark.usefixtures("gateway_loop")
def test_a_call_that_outlasts_the_page_is_not_said_to_be_free(
    client: Client, activated: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    activated()
    monkeypatch.setattr(tryit, "GRACE_SECONDS", -settings.CALL_DEADLINE_SECONDS)
    with held_up():
        page = client.post("/models/echo-text?tab=try-it", {"f/text": "x"}).content.decode()
    assert "Nothing was charged." not in page
    assert "Whether it was charged is not known yet." in page
    assert re.search(r'href="/receipts/[0-9a-f-]{36}"', page)


@pytest.mark.usefixtures("gateway_loop")
def test_a_paid_call_without_a_token_asks_for_one(client: Client, activated: Publish) -> None:
    activated(PAID)
    page = client.post("/models/paid-echo?tab=try-it", {"f/text": "x"}).content.decode()
    assert 'id="token-error"' in page


def test_a_form_that_cannot_be_read_sends_nothing(client: Client, activated: Publish) -> None:
    manifest = MANIFEST.replace(
        "properties: {text: {type: string, maxLength: 200}}",
        "properties: {text: {type: string}, count: {type: integer}}",
    )
    activated(manifest)
    page = unescape(
        client.post(
            "/models/echo-text?tab=try-it", {"f/text": "x", "f/count": "two"}
        ).content.decode()
    )
    assert "“two” is not a whole number." in page
    assert "Nothing was sent." in page


def test_the_page_on_publishing_tells_of_wallets_and_private_models(
    client: Client, db: None
) -> None:
    page = _text(client, "/publish")
    assert 0 < page.index("infra wallet create") < page.index("infra login")
    assert "# access: {public: false}" in unescape(page)
    schema = client.get("/api/v1/manifest.schema.json").json()
    assert 'href="/api/v1/manifest.schema.json#/$defs/Access"' in page
    assert "allow_list" in schema["$defs"]["Access"]["properties"]


def test_a_package_can_be_published_from_the_page(client: Client, owner: Wallet) -> None:
    _, token = mint_token(
        wallet=owner, name="page", actions=["publish"], lifetime=timedelta(hours=1)
    )
    package = onnx_package()
    package.name = "model.tar"
    response = client.post("/publish", {"token": token, "package": package})
    assert response.status_code == 200
    assert "Registered" in response.content.decode()
    assert Model.objects.filter(pk="echo-text", owner=owner).count() == 1
    assert token not in response.content.decode()


def test_a_refused_package_leaves_nothing_and_says_why(client: Client, owner: Wallet) -> None:
    _, token = mint_token(
        wallet=owner, name="page", actions=["publish"], lifetime=timedelta(hours=1)
    )
    package = onnx_package(MANIFEST.replace("license:", "licence:"))
    package.name = "model.tar"
    response = client.post("/publish", {"token": token, "package": package})
    page = unescape(response.content.decode())
    assert response.status_code == 422
    assert "licence" in page
    assert "line 4" in page
    assert Model.objects.count() == 0


@pytest.mark.parametrize("token", ["", "infra_nonsense"])
def test_publishing_without_a_good_token_is_refused_beside_the_field(
    client: Client, db: None, token: str
) -> None:
    response = client.post("/publish", {"token": token})
    assert response.status_code == 401
    assert 'id="token-error"' in response.content.decode()


def test_the_five_lists_stand_on_the_featured_page(client: Client, activated: Publish) -> None:
    activated()
    page = _text(client, "/models/featured")
    titles = re.findall(r'<h2 id="shelf-([a-z-]+)">', page)
    assert titles == [
        "top-performing",
        "dao-pinned",
        "privacy-ready",
        "experimental",
        "agent-compatible",
    ]
    _text(client, "/collections/agent-compatible")
    _text(client, "/collections/unknown", status=404)


def test_a_deprecated_version_names_its_successor(client: Client, activated: Publish) -> None:
    first = activated()
    second = activated(MANIFEST.replace("version: 1.0", "version: 2.0"))
    services.deprecate(version=first, successor=second, sunset_at=None)
    page = _text(client, "/models/echo-text?version=1.0.0")
    assert "lifecycle-deprecated" in page
    assert '<a href="/models/echo-text?version=2.0.0">2.0.0</a>' in page
