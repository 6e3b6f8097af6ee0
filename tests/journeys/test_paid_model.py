"""A model that costs: who may call it, what it costs, and when it costs nothing."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql

from inframind.lib import bearer
from tests.journeys.market import CALLER, Market, fresh_wallet

NAME = "language-id-v1"
GERMAN = {"text": "Das Wetter ist heute schön und wir fahren an den See."}
FEE = 10**16
ROW = sql.SQL("SELECT outcome, fee_base_units, wallet_id FROM gateway_call WHERE id = %s")


@pytest.fixture(scope="module")
def token(market: Market) -> str:
    return market.token(CALLER, "invoke")


def call(
    market: Market, reference: str = NAME, document: Any = GERMAN, token: str = "", **headers: str
) -> Any:
    with market.http(token) as http:
        return http.post(f"/inference/v1/{reference}", json=document, headers=headers)


def row(market: Market, answer: Any) -> tuple[str, int, str]:
    [(outcome, fee, wallet)] = market.rows(ROW, answer.headers["Inframind-Receipt"])
    return outcome, int(fee), wallet


def test_without_a_token_the_price_is_told_and_nothing_runs(market: Market) -> None:
    answer = call(market)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="inframind"'
    problem = answer.json()
    assert problem["type"] == "/problems/token-required"
    assert "0.01 IFM" in problem["detail"]
    assert problem["charged"] is False
    assert "Inframind-Receipt" not in answer.headers


def test_with_a_token_it_is_served_and_the_fee_is_in_header_and_row(
    market: Market, token: str
) -> None:
    answer = call(market, token=token)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["language"], answer.json()["name"]) == ("de", "German")
    assert answer.headers["Inframind-Fee"] == "0.01 IFM"
    assert answer.headers["RateLimit-Policy"] == '"wallet";q=6000;w=60'
    assert row(market, answer) == ("served", FEE, CALLER)
    receipt = answer.headers["Inframind-Receipt"]
    with market.http(token) as http:
        document = http.get(f"/api/v1/receipts/{receipt}").json()
    assert document["fee"] == {"base_units": str(FEE), "text": "0.01 IFM"}
    assert document["caller"] == CALLER


def test_the_command_pays_within_its_budget(market: Market, token: str) -> None:
    within = market.infra(
        "call", "--model", NAME, f"text={GERMAN['text']}", "--budget", "0.01IFM", token=token
    )
    assert within.status == 0, within.stderr
    assert within.json()["language"] == "de"
    assert "fee 0.01 IFM" in within.stderr
    unsigned = market.infra("call", "--model", NAME, f"text={GERMAN['text']}")
    assert (unsigned.status, unsigned.stdout) == (4, "")
    assert "Nothing was charged." in unsigned.stderr


@pytest.mark.parametrize("budget", ["0.009999999999999999 IFM", "0 IFM"])
def test_a_budget_below_the_price_charges_nothing(market: Market, token: str, budget: str) -> None:
    answer = call(market, token=token, **{"Inframind-Budget": budget})
    assert answer.status_code == 402
    problem = answer.json()
    assert problem["price"] == {"base_units": str(FEE), "text": "0.01 IFM"}
    assert problem["charged"] is False
    assert answer.headers["Inframind-Fee"] == "0 IFM"
    assert row(market, answer) == ("refused", 0, CALLER)


def test_a_budget_that_covers_the_price_is_fine(market: Market, token: str) -> None:
    assert call(market, token=token, **{"Inframind-Budget": "0.01 IFM"}).status_code == 200


@pytest.mark.parametrize("budget", ["much", "-1 IFM", "1 EUR", "1e3 IFM", ""])
def test_a_budget_that_cannot_be_read_is_refused(market: Market, token: str, budget: str) -> None:
    answer = call(market, token=token, **{"Inframind-Budget": budget})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-budget"


@pytest.mark.parametrize("bad", ["infra_nothing", "abc", "x" * 5000, "infra_" + "0" * 66])
def test_a_bad_token_is_refused_before_any_name_is_looked_up(market: Market, bad: str) -> None:
    answers = [
        call(market, reference, token=bad)
        for reference in (NAME, "summarizer-v1", "nothing-of-this-name", "a@b@c")
    ]
    assert {answer.status_code for answer in answers} == {401}
    documents = [{**answer.json(), "instance": ""} for answer in answers]
    assert all(document == documents[0] for document in documents)
    assert documents[0]["type"] == "/problems/invalid-token"


def test_a_narrowed_token_calls_its_own_model_only(market: Market) -> None:
    narrow = market.token(CALLER, "invoke", models=("summarizer-v1",))
    refused = call(market, token=narrow)
    assert refused.status_code == 403
    assert refused.json()["type"] == "/problems/insufficient-scope"
    assert NAME in refused.json()["detail"]
    assert call(market, "summarizer-v1", token=narrow).status_code == 200


def test_a_token_without_invoke_calls_nothing(market: Market) -> None:
    publishing = market.token(fresh_wallet(), "publish")
    assert call(market, token=publishing).status_code == 403
    assert call(market, "summarizer-v1", token=publishing).status_code == 403


def test_a_failed_call_costs_nothing(market: Market, token: str) -> None:
    answer = call(market, document={"text": ""}, token=token)
    assert answer.status_code == 422
    assert answer.headers["Inframind-Fee"] == "0 IFM"
    assert row(market, answer) == ("invalid-input", 0, CALLER)


def test_a_revoked_token_ends_at_once(market: Market) -> None:
    token = market.token(CALLER, "invoke")
    assert call(market, token=token).status_code == 200
    assert market.manage("revoke_token", str(bearer.decode(token).token_id)).status == 0
    answer = call(market, token=token)
    assert answer.status_code == 401
    assert answer.json()["detail"] == "The token was revoked."
