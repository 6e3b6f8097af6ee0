"""The account's usage as a page, its part and the overview's panel."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client

from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from tests.inframind.identity.browsing import OTHER, OWNER, browser_of, page_of
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.charged import charge, row_of
from tests.marketplace.unsigned import UNSIGNED

pytestmark = pytest.mark.django_db
PAGE = "/account/usage"
FEE = 25 * 10**16


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


def token_of(name: str) -> Token:
    made, _ = mint_token(
        wallet=Wallet.objects.of(OWNER),
        name=name,
        actions=["invoke"],
        model_scope="any",
        lifetime=timedelta(days=1),
    )
    return made


def test_usage_is_told_by_token_with_its_name(client: Client, publish: Publish) -> None:
    version = publish()
    token = token_of("nightly batch")
    charge(*[row_of(version, OWNER, FEE, token_id=token.pk) for _ in range(3)])
    charge(row_of(version, OWNER, FEE, token_id=UUID(int=7)), row_of(version, OWNER, FEE))
    page = page_of(client.get(PAGE))
    assert f'href="/account/tokens#token-{token.pk}" class="break">nightly batch</a>' in page
    assert "a token that is gone" in page
    assert "Signed in on a page" in page


def test_every_call_leads_to_its_receipt_page_by_page(client: Client, publish: Publish) -> None:
    version = publish()
    made = {str(each) for _ in range(3) for each in charge(*[row_of(version, OWNER, FEE)] * 1)}
    for _ in range(3):
        made |= {str(each) for each in charge(*[row_of(version, OWNER, FEE) for _ in range(9)])}
    charge(row_of(version, OTHER, FEE))
    found: list[str] = []
    address = PAGE
    while address:
        page = page_of(client.get(address))
        found += re.findall(r'href="/receipts/([0-9a-f-]{36})"', page)
        older = re.findall(r'href="(/account/usage[^"]+)" rel="next"', page)
        address = html.unescape(older[0]) if older else ""
    assert sorted(found) == sorted(made)
    assert len(found) == 30


@pytest.mark.parametrize("before", ["x", "%00", "2026-01-01T00:00:00~x", "~", "9999-99-99~1"])
def test_a_place_that_is_none_begins_at_the_newest(
    client: Client, publish: Publish, before: str
) -> None:
    charge(row_of(publish(), OWNER, FEE))
    page = page_of(client.get(f"{PAGE}?before={before}"))
    assert page.count('href="/receipts/') == 1


def rows_of(client: Client, query: str = "") -> list[list[str]]:
    answer = client.get(f"/account/usage.csv{query}")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in answer.headers["Content-Disposition"]
    return list(csv.reader(io.StringIO(answer.content.decode(), newline="")))


def test_the_table_to_take_along_has_every_call_once(client: Client, publish: Publish) -> None:
    version = publish()
    token = token_of("nightly batch")
    charge(*[row_of(version, OWNER, FEE, token_id=token.pk) for _ in range(3)])
    charge(row_of(version, OWNER, FEE), row_of(version, OWNER, FEE, served=False))
    head, *rows = rows_of(client, "?days=7")
    assert head == ["day", "model", "token", "calls", "served", "fees_ifm", "fees_base_units"]
    assert [row[1:] for row in rows] == [
        ["echo-text", "nightly batch", "3", "3", "0.75", str(3 * FEE)],
        ["echo-text", "signed in on a page", "2", "1", "0.25", str(FEE)],
    ]


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\uff1dcmd", '=HYPERLINK("http://x","y")']
)
def test_no_name_is_a_formula_in_a_spreadsheet(client: Client, publish: Publish, name: str) -> None:
    token = token_of("plain")
    Token.objects.filter(pk=token.pk).update(name=name)
    charge(row_of(publish(), OWNER, FEE, token_id=token.pk))
    _, row = rows_of(client)
    assert row[2] == f"'{name}"


@pytest.mark.parametrize("days", ["0", "-1", "9999", "x", "%C2%B2", "%00"])
def test_a_span_that_is_none_is_some_span(client: Client, days: str) -> None:
    assert rows_of(client, f"?days={days}")[0][0] == "day"


def test_a_stranger_gets_no_table() -> None:
    assert Client().get("/account/usage.csv").status_code == 302


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
        **UNSIGNED,
    )


def test_the_overview_loads_the_panel_and_links_to_the_page(client: Client) -> None:
    overview = page_of(client.get("/account"))
    assert 'hx-get="/account/usage?panel"' in overview
    assert 'href="/account/usage"' in overview
    panel = page_of(client.get(f"{PAGE}?panel", headers={"HX-Request": "true"}))
    assert "calls in 30 d" in panel
    assert "account-head" not in panel
    assert "<!doctype html>" in page_of(client.get(f"{PAGE}?panel"))
