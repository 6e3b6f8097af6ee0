"""What a call costs: exactly its fee, once it was served, and never what is not there."""

from __future__ import annotations

import json

import pytest

from inframind.lib.amounts import format_ifm
from marketplace.gateway.models import Batch, Call
from marketplace.gateway.payees import house_payee

from . import money
from .money import FEE, GUEST

pytestmark = pytest.mark.usefixtures("mesh")


def test_a_served_call_costs_its_fee_and_its_row_says_so() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 3 * FEE)

    answer = money.answer_of(money.request_of(version.model_id, money.token_of()))

    assert answer.status == 200, answer.document
    assert answer.headers["Inframind-Fee"] == format_ifm(FEE)
    row = money.call_of(answer)
    assert (int(row.fee_base_units), row.epoch, row.parameters_version) == (FEE, 1, 1)
    assert row.payout_address == version.payout_address
    # The test's nodes are the house's own: they name no operator.
    assert row.operator_address == house_payee()
    assert money.balance() == 2 * FEE
    money.idle()
    money.books_are_right()
    assert money.balance() == 2 * FEE


def test_without_funds_it_is_402_and_says_how_much_and_how_to_top_up(settings: object) -> None:
    version = money.paid_doubler()
    money.fund(GUEST, FEE - 1)

    answer = money.answer_of(money.request_of(version.model_id, money.token_of()))

    assert answer.status == 402
    problem = json.loads(answer.document)
    assert problem["type"] == "/problems/insufficient-balance"
    assert (problem["charged"], problem["retry_safe"]) == (False, True)
    assert problem["price"]["base_units"] == str(FEE)
    assert problem["balance"]["base_units"] == problem["available"]["base_units"] == str(FEE - 1)
    assert problem["under_way"]["base_units"] == "0"
    assert "/account/balance" in problem["remedy"]
    assert "infra deposit" in problem["remedy"]
    row = money.call_of(answer)
    assert (row.outcome, int(row.fee_base_units)) == ("refused", 0)
    money.idle()
    assert money.balance() == FEE - 1


def test_a_free_model_needs_no_balance() -> None:
    version = money.paid_doubler(0)
    answer = money.answer_of(money.request_of(version.model_id, money.token_of()))
    assert (answer.status, answer.headers["Inframind-Fee"]) == (200, "0 IFM")


def test_what_was_not_served_costs_nothing_and_leaves_its_funds_to_others() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, FEE)
    token = money.token_of()
    documents = ({"values": "no"}, {"values": "no"}, {"values": [1]}, {"values": [1]})
    requests = [money.request_of(version.model_id, token, each) for each in documents]
    assert [money.answer_of(each).status for each in requests] == [422, 422, 200, 402]
    assert money.spent() == FEE
    money.idle()
    money.books_are_right()
    assert money.balance() == 0


def test_of_60_at_once_a_balance_for_10_serves_exactly_10() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 10 * FEE + FEE // 2)
    token = money.token_of()

    answers = money.at_once([money.request_of(version.model_id, token) for _ in range(60)])

    assert money.kinds(answers) == {"served": 10, "/problems/insufficient-balance": 50}
    money.idle()
    money.books_are_right()
    assert (money.balance(), money.spent()) == (FEE // 2, 10 * FEE)
    assert sum(batch.count for batch in Batch.objects.all()) == Call.objects.count() == 60
