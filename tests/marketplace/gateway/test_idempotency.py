"""One wish, one call: whoever sends the same key and body again gets the same answer, paid once."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import F

from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway import keyed, services
from marketplace.gateway.models import Call, KeyedCall
from marketplace.mesh.models import Node

from . import money
from .money import FEE, GUEST

KEY = "6c1e2a52-6f0e-4b36-9c6b-7d2f1c0a9f11"
OTHER = "0x4444444444444444444444444444444444444444"


@pytest.fixture
def version(mesh: list[Node]) -> Version:
    money.fund(GUEST, 20 * FEE)
    return money.paid_doubler()


def request(version: Version, document: Any = None, **wish: Any) -> Any:
    given: dict[str, Any] = {"idempotency_key": KEY, "token": money.token_of(), **wish}
    return money.request_of(version.model_id, given.pop("token"), document, **given)


def problem_of(answer: Any) -> tuple[int, str]:
    return answer.status, json.loads(answer.document)["type"].removeprefix("/problems/")


def test_the_same_key_and_body_give_the_same_answer_for_one_fee(version: Version) -> None:
    first, second = (money.answer_of(request(version, {"values": [2, 3]})) for _ in range(2))

    assert (first.status, second.status) == (200, 200)
    assert second.document == first.document
    changing = {"RateLimit", "Idempotency-Replayed"}
    assert {k: v for k, v in second.headers.items() if k not in changing} == {
        k: v for k, v in first.headers.items() if k not in changing
    }
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert Call.objects.count() == 1
    assert money.balance() == 19 * FEE
    kept = KeyedCall.objects.get()
    assert b"4.0" not in bytes(kept.answer_sealed or b"")
    assert KEY not in kept.key_digest


def test_50_at_once_with_one_key_are_one_call(version: Version) -> None:
    token = money.token_of()
    answers = money.at_once([request(version, token=token) for _ in range(50)])

    codes = Counter("served" if each.status == 200 else problem_of(each)[1] for each in answers)
    assert set(codes) <= {"served", "idempotency-key-in-flight"}
    in_flight = [each for each in answers if each.status == 409]
    assert all(int(each.headers["Retry-After"]) > 0 for each in in_flight)
    assert Call.objects.filter(outcome="served").count() == 1
    assert len({each.headers["Inframind-Receipt"] for each in answers if each.status == 200}) == 1
    assert money.balance() == 19 * FEE
    again = money.answer_of(request(version, token=token))
    assert (again.status, again.headers["Idempotency-Replayed"]) == (200, "true")


def test_another_body_or_model_with_the_key_is_422(version: Version) -> None:
    assert money.answer_of(request(version)).status == 200
    for other in (
        request(version, {"values": [9]}),
        request(version, number="1.0.0"),
        money.request_of(money.paid_doubler().model_id, money.token_of(), idempotency_key=KEY),
    ):
        answer = money.answer_of(other)
        assert problem_of(answer) == (422, "idempotency-key-reused")
    assert money.spent() == FEE


def test_keys_are_a_wallets_own(version: Version) -> None:
    money.fund(OTHER, FEE)
    mine = money.answer_of(request(version))
    theirs = money.answer_of(request(version, token=money.token_of(OTHER)))
    assert mine.status == theirs.status == 200
    assert mine.headers["Inframind-Receipt"] != theirs.headers["Inframind-Receipt"]


def test_a_call_that_was_not_served_leaves_the_key_free(version: Version) -> None:
    wrong = {"values": "no"}
    assert problem_of(money.answer_of(request(version, wrong))) == (422, "invalid-input")
    assert not KeyedCall.objects.exists()
    assert money.answer_of(request(version)).status == 200
    budget = request(version, idempotency_key="another", budget_base_units=1)
    assert problem_of(money.answer_of(budget)) == (402, "over-budget")
    assert KeyedCall.objects.count() == 1


def test_a_call_that_died_frees_its_key_when_its_time_is_over(version: Version) -> None:
    money.answer_of(request(version))
    KeyedCall.objects.update(served=False, answer_sealed=None, call_id=new_uuid7())
    assert problem_of(money.answer_of(request(version))) == (409, "idempotency-key-in-flight")
    KeyedCall.objects.update(expires_at=F("expires_at") - timedelta(days=2))
    assert money.answer_of(request(version)).status == 200


def test_after_a_day_the_key_is_new_and_the_answer_is_gone(version: Version) -> None:
    first = money.answer_of(request(version))
    [kept] = KeyedCall.objects.all()
    assert timedelta(hours=23) < kept.expires_at - kept.created_at <= timedelta(hours=25)
    KeyedCall.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    second = money.answer_of(request(version))
    assert second.headers["Inframind-Receipt"] != first.headers["Inframind-Receipt"]
    KeyedCall.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    assert (services.sweep(), KeyedCall.objects.count()) == (1, 0)


@pytest.mark.parametrize("key", ["", "a b", "ä", "x" * 256, "line\nbreak", "\x00"])
def test_what_is_no_key_is_422(version: Version, key: str) -> None:
    answer = money.answer_of(request(version, idempotency_key=key))
    assert problem_of(answer) == (422, "invalid-idempotency-key")
    assert money.spent() == 0


def test_anonymous_calls_have_no_keys(version: Version) -> None:
    Version.objects.filter(pk=version.pk).update(fee_base_units=0)
    answers = [money.answer_of(request(version, token=None)) for _ in range(2)]
    assert [each.status for each in answers] == [200, 200]
    assert Call.objects.count() == 2
    assert not KeyedCall.objects.exists()


def test_a_key_comes_as_a_header(version: Version, call: Any) -> None:
    token = money.token_of()
    for replayed in (None, "true"):
        answer = call(version.model_id, {"values": [1]}, token=token, **{"Idempotency-Key": KEY})
        assert answer.status_code == 200
        assert answer.headers.get("Idempotency-Replayed") == replayed


def test_an_answer_opens_under_its_key_only(version: Version, settings: Any) -> None:
    money.answer_of(request(version))
    settings.PACKAGE_KEY = "another"
    answer = money.answer_of(request(version))
    assert problem_of(answer) == (410, "stored-answer-lost")
    assert money.spent() == FEE


def test_a_wallet_keeps_so_much_and_no_more(
    version: Version, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KEYED_ANSWERS_MAX_BYTES = 100
    hoarder = "0x5555555555555555555555555555555555555555"
    money.fund(hoarder, 10 * FEE)
    token = money.token_of(hoarder)
    first = money.answer_of(request(version, token=token))
    assert first.status == 200

    def refused() -> None:
        answer = money.answer_of(request(version, token=token, idempotency_key="another"))
        assert problem_of(answer) == (429, "too-many-kept-answers")
        document = json.loads(answer.document)
        assert document["charged"] is False
        assert "without an Idempotency-Key still work" in document["remedy"]
        assert "The oldest answer goes at " in document["remedy"]

    refused()  # by what this process has kept itself
    monkeypatch.setattr(keyed, "_MEASURED_SECONDS", 0.0)
    refused()  # by what the database says
    answer = money.answer_of(request(version, token=token, idempotency_key="another"))
    assert 86_000 < int(answer.headers["Retry-After"]) <= keyed.KEPT_SECONDS
    assert KeyedCall.objects.count() == 1
    again = money.answer_of(request(version, token=token))
    assert (again.status, again.document) == (200, first.document)
    assert money.answer_of(request(version, token=token, idempotency_key=None)).status == 200
    assert money.answer_of(request(version)).status == 200  # another wallet
    assert money.spent(hoarder) == 2 * FEE
    KeyedCall.objects.update(expires_at=F("expires_at") - timedelta(hours=25))
    other = request(version, token=token, idempotency_key="another")
    assert money.answer_of(other).status == 200


def test_a_key_is_free_again_after_a_call_that_lost_the_database(
    version: Version, settings: Any
) -> None:
    wallet = "0x6666666666666666666666666666666666666666"
    money.fund(wallet, 10 * FEE)
    token = money.token_of(wallet)
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(settings.DATABASE_URL, dbname=connection.settings_dict["NAME"]) as other,
    ):
        # Looked at once the model has answered, before the call is written down.
        other.execute("LOCK TABLE payouts_delegation IN ACCESS EXCLUSIVE MODE")
        lost = pool.submit(money.answer_of, request(version, token=token))
        until = time.monotonic() + 30
        while not other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"
            " AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        ).fetchone():
            assert time.monotonic() < until
            assert not lost.done()
        other.rollback()
        assert problem_of(lost.result(30)) == (503, "not-available")
    assert not KeyedCall.objects.exists()
    assert money.answer_of(request(version, token=token)).status == 200
    assert money.spent(wallet) == FEE
