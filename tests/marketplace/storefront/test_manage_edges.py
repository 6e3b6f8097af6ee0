"""The owner's pages at their edges: long lists, forms that say nothing, warnings before a step."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inframind.identity.models import Wallet
from inframind.lib.addresses import checksum_address
from marketplace.catalog import groups, services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import AccessRequest, AllowEntry, GroupMember, Model
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, PRIVATE, STRANGER

MANAGE = "/models/echo-text/manage"


def address(number: int) -> str:
    return checksum_address(f"0x{number:040x}")


@pytest.fixture
def private(activated: Publish) -> Model:
    return activated(PRIVATE).model


@pytest.fixture
def browser(client: Client, owner: Wallet) -> Client:
    client.force_login(owner)
    return client


def page(client: Client, path: str = MANAGE) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def test_every_entry_of_a_long_list_can_be_reached_and_removed(
    private: Model, owner: Wallet, browser: Client
) -> None:
    guests = [Guest(address(number)) for number in range(1, 121)]
    services.allow(model=private, guests=guests, changed_by=owner)
    first, third = page(browser), page(browser, f"{MANAGE}?page=3")
    on_first = [f'value="{address(number)}"' in first for number in (1, 50, 51, 120)]
    assert ("120 entries" in first, on_first) == (True, [True, True, False, False])
    assert (f'value="{address(120)}"' in third, "Page 3 of 3" in third) == (True, True)
    assert first.count('value="remove"') + third.count('value="remove"') == 70

    assert f'action="{MANAGE}?page=3"' in third
    data = {"do": "remove", "who": address(120)}
    answer: Any = browser.post(f"{MANAGE}?page=3", data, follow=True)
    assert answer.redirect_chain == [(f"{MANAGE}?page=3", 302)]
    assert AllowEntry.objects.filter(model=private).count() == 119
    for odd in ("0", "-1", "x", "9" * 400, ""):
        assert "Allow list" in page(browser, f"{MANAGE}?page={odd}")


def test_the_work_of_a_page_does_not_grow_with_the_list(
    private: Model, owner: Wallet, browser: Client
) -> None:
    def work() -> tuple[int, bool]:
        page(browser)
        with CaptureQueriesContext(connection) as queries:
            text = page(browser)
        return len(queries), len(text) < 300_000

    services.allow(model=private, guests=[Guest(address(1))], changed_by=owner)
    short = work()
    guests = [Guest(address(number)) for number in range(2, 2001)]
    services.allow(model=private, guests=guests, changed_by=owner)
    assert (work()[0] - short[0], work()[1]) == (0, True)


def test_a_long_group_has_pages_too(owner: Wallet, browser: Client) -> None:
    services.create_group(owner=owner, name="acme")
    members = [groups.Member(address(number)) for number in range(1, 61)]
    services.add_members(owner=owner, name="acme", members=members)
    second = page(browser, "/account/groups/acme?page=2")
    assert (address(60) in second, address(50) in second) == (True, False)
    data = {"do": "remove", "who": address(60)}
    answer: Any = browser.post("/account/groups/acme?page=2", data, follow=True)
    assert answer.redirect_chain == [("/account/groups/acme?page=2", 302)]
    assert GroupMember.objects.count() == 59


@pytest.mark.parametrize("path", [MANAGE, f"{MANAGE}?section=requests", "/account/groups/acme"])
@pytest.mark.parametrize("data", [{}, {"do": "burn"}])
def test_a_form_that_asks_for_nothing_is_told_so(
    private: Model, owner: Wallet, browser: Client, path: str, data: dict[str, str]
) -> None:
    services.create_group(owner=owner, name="acme")
    answer = browser.post(path, data)
    told = "This form asks for nothing that the page does." in answer.content.decode()
    assert (answer.status_code, told) == (422, True)


def test_a_decision_without_a_verdict_decides_nothing(
    private: Model, stranger: Wallet, browser: Client
) -> None:
    services.ask(wallet=stranger, name=private.pk)
    waiting = AccessRequest.objects.get()
    for verdict in ({}, {"verdict": "maybe"}):
        answer = browser.post(
            f"{MANAGE}?section=requests", {"do": "decide", "request": str(waiting.pk), **verdict}
        )
        assert answer.status_code == 422
    waiting.refresh_from_db()
    assert (waiting.state, AllowEntry.objects.count()) == ("open", 0)


def test_the_owner_is_warned_before_a_key_is_published(
    activated: Publish, browser: Client, owner: Wallet
) -> None:
    warning = "That cannot be taken back."
    model = activated(PRIVATE).model
    assert warning in page(browser)
    services.change_access(model=model, public=True, reason="done", changed_by=owner)
    assert warning not in page(browser)
    services.change_access(model=model, public=False, reason="back", changed_by=owner)
    assert warning not in page(browser)
    activated(MANIFEST.replace("version: 1.0", "version: 1.1"))
    assert warning in page(browser)


def test_a_wrong_member_is_asked_for_in_the_same_words(owner: Wallet, browser: Client) -> None:
    services.create_group(owner=owner, name="acme")
    answer = browser.post("/account/groups/acme", {"do": "allow", "who": "@acme"})
    text = answer.content.decode()
    assert (answer.status_code, "Wallet or group" in text) == (422, False)


def test_requests_that_wait_stand_before_any_number_of_decided_ones(
    private: Model, owner: Wallet, stranger: Wallet, browser: Client
) -> None:
    services.ask(wallet=Wallet.objects.of(STRANGER), name=private.pk, message="the oldest")
    AccessRequest.objects.bulk_create(
        AccessRequest(model_name=private.pk, wallet=owner, state="refused", message="later")
        for _ in range(600)
    )
    assert "the oldest" in page(browser, f"{MANAGE}?section=requests")
