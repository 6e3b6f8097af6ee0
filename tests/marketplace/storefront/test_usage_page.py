"""The account's usage as a page, its part and the overview's panel."""

from __future__ import annotations

import pytest
from django.test import Client

from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from tests.inframind.identity.browsing import OTHER, OWNER, browser_of, page_of
from tests.marketplace.catalog.conftest import Publish

pytestmark = pytest.mark.django_db
PAGE = "/account/usage"


@pytest.fixture
def client() -> Client:
    return browser_of(Wallet.objects.of(OWNER))


def test_a_stranger_is_sent_to_sign_in() -> None:
    answer = Client().get(PAGE)
    assert answer.headers["Location"] == "/signin?next=%2Faccount%2Fusage"


@pytest.mark.parametrize("query", ["", "?days=7", "?days=9999", "?days=x%00"])
def test_without_calls_it_says_what_to_do(client: Client, query: str) -> None:
    answer = client.get(f"{PAGE}{query}")
    assert answer.status_code == 200
    assert "Nothing called yet" in page_of(answer)


def test_calls_of_the_wallet_and_of_nobody_else_are_counted(
    client: Client, publish: Publish
) -> None:
    version = publish()
    called(version, OWNER, "served", 25 * 10**16)
    called(version, OWNER, "model-failed", 0)
    called(version, OTHER, "served", 10**18)
    page = page_of(client.get(PAGE))
    assert "<dt>calls in 30 d</dt><dd>2</dd>" in page
    assert 'data-base-units="250000000000000000"' in page
    assert 'data-base-units="1000000000000000000"' not in page
    assert 'href="/models/echo-text"' in page


def called(version: Version, wallet: str, outcome: str, fee_base_units: int) -> None:
    digest = f"sha256:{'0' * 64}"
    Call.objects.create(
        id=new_uuid7(),
        version=version,
        wallet=Wallet.objects.of(wallet),
        outcome=outcome,
        fee_base_units=fee_base_units,
        latency_us=1_000,
        node_name="node-a",
        input_digest=digest,
        output_digest=digest,
    )


def test_the_overview_loads_the_panel_and_links_to_the_page(client: Client) -> None:
    overview = page_of(client.get("/account"))
    assert 'hx-get="/account/usage?panel"' in overview
    assert 'href="/account/usage"' in overview
    panel = page_of(client.get(f"{PAGE}?panel", headers={"HX-Request": "true"}))
    assert "calls in 30 d" in panel
    assert "account-head" not in panel
    assert "<!doctype html>" in page_of(client.get(f"{PAGE}?panel"))
