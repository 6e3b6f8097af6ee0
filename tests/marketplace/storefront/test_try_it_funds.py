"""A call that its payer cannot pay for, as the try-it tab says it."""

from __future__ import annotations

from django.template.loader import render_to_string
from django.test import RequestFactory

from billing.ledger.refusals import OutOfFunds
from marketplace.storefront.tryit import Shortage, answer_of_problem

FEE = 25 * 10**16


def shown(problem: OutOfFunds) -> str:
    answer = answer_of_problem(problem.as_document(), 402, 1.0, "")
    request = RequestFactory().get("/models/echo-text?tab=try-it")
    return render_to_string(
        "storefront/tabs/try_it.html", {"answer": answer, "price_base_units": FEE}, request
    )


def test_price_balance_and_the_way_to_top_up_are_told() -> None:
    problem = OutOfFunds(
        fee_base_units=FEE,
        balance_base_units=FEE // 5,
        available_base_units=0,
        under_way_base_units=FEE // 5,
    )
    answer = answer_of_problem(problem.as_document(), 402, 1.0, "")
    assert answer.short == Shortage(price=FEE, balance=FEE // 5, available=0, day_limit=None)
    page = shown(problem)
    assert f'<dt>price</dt><dd><span class="amount" data-base-units="{FEE}"' in page
    assert f'<dt>balance</dt><dd><span class="amount" data-base-units="{FEE // 5}"' in page
    assert 'href="/account/balance" hx-boost="false">Top up</a>' in page
    assert "Nothing was charged." in page


def test_a_limit_for_a_day_is_told_as_what_it_is() -> None:
    page = shown(
        OutOfFunds(
            fee_base_units=FEE,
            balance_base_units=4 * FEE,
            available_base_units=4 * FEE,
            under_way_base_units=0,
            day_limit_base_units=2 * FEE,
            day_used_base_units=2 * FEE,
        )
    )
    assert f'<dt>limit for a day</dt><dd><span class="amount" data-base-units="{2 * FEE}"' in page
    assert "Change the limit</a>" in page


def test_another_refusal_has_no_figures() -> None:
    answer = answer_of_problem({"title": "Gone", "detail": "It expired."}, 410, 1.0, "")
    assert answer.short is None
