"""The explorer of epochs."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from billing.epochs import services as epochs
from billing.payouts import services
from billing.payouts.explorer import shares_of
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, record
from tests.billing.payouts.acts import People
from tests.billing.payouts.test_api import earned, settled
from tests.inframind.identity.browsing import page_of

pytestmark = pytest.mark.django_db
PAYER, OWNER, OPERATOR = address(1), address(11), address(21)
SECRET = "secret-plans-v1"


def calls(model: str = "summarizer-v1", *, hidden: bool = False, count: int = 4) -> list[Kept]:
    return [Kept(PAYER, OWNER, OPERATOR, model, "node-a", IFM // 4, hidden=hidden)] * count


def page(path: str) -> str:
    answer = Client().get(path)
    assert answer.status_code == 200
    found = page_of(answer)
    assert not re.search(r'<style|\sstyle="|\son[a-z]+="', found)
    return found


def test_before_anything_closed_the_open_epoch_stands_there(keeper: Keeper) -> None:
    found = page("/epochs")
    assert "<dt>calls so far</dt><dd>0</dd>" in found
    assert "No epoch has closed yet" in found


def test_the_open_epoch_tells_sums_and_nothing_by_name(keeper: Keeper) -> None:
    record(calls(count=2))
    record(calls(SECRET, hidden=True, count=3), seed=2)
    for path in ("/epochs", "/epochs/1"):
        found = page(path)
        assert "<dt>calls so far</dt><dd>5</dd>" in found
        assert 'data-base-units="1250000000000000000"' in found
        assert SECRET not in found


def test_a_sealed_epoch_shows_that_it_adds_up_and_hides_private_names(keeper: Keeper) -> None:
    record(calls(count=2))
    record(calls(SECRET, hidden=True, count=3), seed=2)
    epoch = epochs.close(at_once=True)
    found = page("/epochs/1")
    assert "yes, to the unit" in found
    assert "model:summarizer-v1" in found
    assert "private stream" in found
    assert SECRET not in found
    assert epoch.tree_cid in found
    assert epoch.receipts_cid in found
    assert "0x" + bytes(epoch.root or b"").hex() in found
    assert "infra rewards verify --epoch 1" in found
    assert SECRET not in page("/epochs")
    shares = shares_of(epoch)
    assert shares.revenue == shares.charged == shares.shared_out == 5 * IFM // 4
    assert (shares.owners, shares.nodes) == (3 * IFM // 4, 3 * IFM // 8)
    assert shares.agree


def test_a_model_that_was_made_private_is_not_named_any_more(keeper: Keeper) -> None:
    record(calls(count=2))
    epochs.close(at_once=True)
    assert "model:summarizer-v1" in page("/epochs/1")
    keeper.secrets = {"model:summarizer-v1"}
    found = page("/epochs/1")
    assert "summarizer-v1" not in found
    assert "private stream" in found


def test_an_epoch_without_calls_that_cost_says_so(keeper: Keeper) -> None:
    epochs.close(at_once=True)
    assert "Nobody earned anything in this epoch" in page("/epochs/1")


def test_line_items_are_told_page_by_page_and_as_a_part(keeper: Keeper) -> None:
    record([Kept(PAYER, address(100 + n), OPERATOR, f"m-{n}", "n", IFM) for n in range(70)])
    epochs.close(at_once=True)
    found = page("/epochs/1") + page("/epochs/1?page=2")
    assert {f"model:m-{n}" for n in range(70)} <= set(re.findall(r"model:m-\d+", found))
    part = Client().get("/epochs/1?page=2", headers={"HX-Request": "true"})
    assert "<!doctype html>" not in page_of(part)
    assert "Page 2 of 2" in page_of(part)


def test_the_states_are_told_with_their_times_and_the_transaction(
    people: People, keeper: Keeper
) -> None:
    epoch = earned(people)
    assert page(f"/epochs/{epoch.number}").count('class="step-state is-reached"') == 3
    services.publish_root(epoch.number)
    settled(people)
    found = page(f"/epochs/{epoch.number}")
    assert found.count('class="step-state is-reached"') == 5
    assert found.count('aria-current="step"') == 1
    assert re.search(r'title="0x[0-9a-f]{64}"', found.split("On chain")[1])


@pytest.mark.parametrize("number", ["0", "77", "9" * 30])
def test_an_epoch_that_never_was_is_not_found(keeper: Keeper, number: str) -> None:
    assert Client().get(f"/epochs/{number}").status_code == 404


def test_every_page_leads_to_the_epochs(keeper: Keeper) -> None:
    found = page("/epochs")
    assert found.count('href="/epochs" aria-current="page"') == 2
    assert found.count('<a href="/epochs">Epochs</a>') == 1
