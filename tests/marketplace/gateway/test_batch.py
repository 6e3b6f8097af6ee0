"""Many documents in one request: each a call of its own, with its own charge and fate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from marketplace.gateway import batch
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node

from ..mesh import serving
from ..mesh.serving import fresh_name, list_doubler
from . import money

pytestmark = pytest.mark.usefixtures("mesh")

Post = Callable[..., Any]


@pytest.fixture
def post() -> Post:
    """POSTs a batch through Django's front; returns its response."""
    client = Client()

    def send(reference: str, inputs: Any, *, token: str = "", **headers: str) -> Any:
        if token:
            headers["Authorization"] = f"Bearer {token}"
        content = inputs if isinstance(inputs, bytes) else json.dumps(inputs)
        return client.post(
            f"/inference/v1/{reference}/batch", content, "application/json", headers=headers
        )

    return send


def values(*numbers: float) -> list[dict[str, Any]]:
    return [{"values": [number]} for number in numbers]


def outputs_of(answer: Any) -> list[Any]:
    return [each["output"]["values"] for each in answer.json()["results"]]


def test_each_input_is_a_call_of_its_own_with_one_charge(post: Post) -> None:
    money.fund(money.GUEST, 10 * money.FEE)
    version = money.paid_doubler()

    answer = post(version.model_id, values(1, 2, 3), token=money.token_of())

    assert answer.status_code == 200, answer.content
    assert outputs_of(answer) == [[2.0], [4.0], [6.0]]
    told = answer.json()
    assert told["model"] == f"{version.model_id}@1.0.0"
    assert told["served"] == 3
    assert told["fee"] == {"base_units": str(3 * money.FEE), "text": "0.75 IFM"}
    assert answer.headers["Inframind-Fee"] == "0.75 IFM"
    assert answer.headers["Inframind-Model"] == f"{version.model_id}@1.0.0"
    assert {each["fee"] for each in told["results"]} == {"0.25 IFM"}
    rows = {row.pk: row for row in Call.objects.all()}
    assert set(rows) == {UUID(each["receipt"]) for each in told["results"]}
    assert {each["node"] for each in told["results"]} == {row.node_name for row in rows.values()}
    assert money.spent() == 3 * money.FEE
    assert money.balance() == 7 * money.FEE


def test_an_input_that_is_refused_costs_nothing_and_hinders_no_other(post: Post) -> None:
    money.fund(money.GUEST, 10 * money.FEE)
    version = money.paid_doubler()
    inputs = [{"values": [1]}, {"values": "x"}, 7, {"values": [4]}]

    results = post(version.model_id, inputs, token=money.token_of()).json()["results"]

    assert [each["status"] for each in results] == [200, 422, 422, 200]
    assert results[1]["problem"]["violations"][0]["pointer"] == "/values"
    assert results[1]["problem"]["charged"] is False
    assert "output" not in results[1]
    assert [each["fee"] for each in results] == ["0.25 IFM", "0 IFM", "0 IFM", "0.25 IFM"]
    assert Call.objects.filter(outcome="invalid-input").count() == 2
    assert money.spent() == 2 * money.FEE


def test_256_at_once_come_back_in_their_order(post: Post) -> None:
    tensors = {**serving.DOUBLER_TENSORS, "max_batch_size": 16}
    version = list_doubler(fresh_name("batched"), tensors=tensors)
    numbers = list(range(batch.MAX_INPUTS))

    answer = post(version.model_id, values(*numbers), token=money.token_of())

    assert outputs_of(answer) == [[2.0 * number] for number in numbers]
    assert Call.objects.filter(outcome="served").count() == batch.MAX_INPUTS


def test_a_balance_for_three_serves_three(post: Post) -> None:
    money.fund(money.GUEST, 3 * money.FEE)
    version = money.paid_doubler()

    answer = post(version.model_id, values(1, 2, 3, 4, 5), token=money.token_of()).json()

    assert sorted(each["status"] for each in answer["results"]) == [200, 200, 200, 402, 402]
    assert answer["served"] == 3
    assert money.balance() == 0


def test_a_budget_bounds_the_whole(post: Post) -> None:
    money.fund(money.GUEST, 10 * money.FEE)
    version, token = money.paid_doubler(), money.token_of()

    def send(budget: str) -> Any:
        return post(version.model_id, values(1, 2), token=token, **{"Inframind-Budget": budget})

    refused = send("0.49 IFM")
    assert (refused.status_code, refused.json()["type"]) == (402, "/problems/over-budget")
    assert refused.json()["price"]["base_units"] == str(2 * money.FEE)
    assert not Call.objects.exists()
    assert send("0.5 IFM").json()["served"] == 2


def test_a_key_covers_each_input(post: Post) -> None:
    money.fund(money.GUEST, 10 * money.FEE)
    version, token = money.paid_doubler(), money.token_of()
    key = {"Idempotency-Key": "once"}

    first = post(version.model_id, values(1, 2), token=token, **key).json()
    second = post(version.model_id, values(1, 2), token=token, **key).json()
    longer = post(version.model_id, values(1, 7, 3), token=token, **key).json()

    assert all(each.pop("replayed") for each in second["results"])
    assert second == first
    assert [each["status"] for each in longer["results"]] == [200, 422, 200]
    assert longer["results"][0]["receipt"] == first["results"][0]["receipt"]
    assert longer["results"][1]["problem"]["type"] == "/problems/idempotency-key-reused"
    assert money.spent() == 3 * money.FEE


@given(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9), st.integers(0, 255))
def test_no_two_inputs_share_a_key(key: str, other: str, index: int) -> None:
    keys = {batch.key_of(each, at) for each in {key, other} for at in {index, index + 1}}
    assert len(keys) == 2 * len({key, other})


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[]", 422, "invalid-input"),
        (b'{"values": [1]}', 422, "invalid-input"),
        (b"7", 422, "invalid-input"),
        (b"[", 422, "invalid-input"),
        (b'[{"values": [1], "values": [2]}]', 422, "invalid-input"),
        (json.dumps([{}] * 257).encode(), 413, "too-large"),
    ],
)
def test_what_is_no_batch_is_refused_whole(post: Post, body: bytes, status: int, code: str) -> None:
    version = list_doubler(fresh_name("doubler"))
    answer = post(version.model_id, body)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{code}")
    assert not Call.objects.exists()


@pytest.mark.parametrize("key", ["", "two words", "k" * 256])
def test_a_key_that_is_none_is_refused_whole(post: Post, key: str) -> None:
    version = list_doubler(fresh_name("doubler"))
    answer = post(version.model_id, values(1), token=money.token_of(), **{"Idempotency-Key": key})
    assert answer.json()["type"] == "/problems/invalid-idempotency-key"
    assert not Call.objects.exists()


def test_who_may_not_call_is_told_so_once(post: Post) -> None:
    paid = money.paid_doubler().model_id
    assert post("no-such-model", values(1, 2)).status_code == 404
    assert post(paid, values(1, 2)).json()["type"] == "/problems/token-required"
    assert post(paid, values(1), token="infra_nonsense").status_code == 401
    assert not Call.objects.exists()


def test_every_input_counts_as_a_call(post: Post, settings: Any) -> None:
    settings.ANONYMOUS_CALLS_PER_MINUTE = 4
    version = list_doubler(fresh_name("doubler"))

    results = post(version.model_id, values(1, 2, 3, 4, 5, 6)).json()["results"]

    assert sorted(each["status"] for each in results) == [200] * 4 + [429] * 2
    assert post(version.model_id, values(1)).status_code == 429


def test_guesses_of_names_count_too(post: Post, settings: Any) -> None:
    settings.ANONYMOUS_CALLS_PER_MINUTE = 2
    assert [post("no-such-model", values(1)).status_code for _ in range(3)] == [404, 404, 429]


def test_what_no_node_runs_has_a_row_each_and_no_fee(post: Post) -> None:
    version = list_doubler(fresh_name("doubler"))
    Node.objects.all().delete()
    answer = post(version.model_id, values(1, 2)).json()
    assert [each["problem"]["type"] for each in answer["results"]] == ["/problems/no-node"] * 2
    assert answer["served"] == 0
    assert Call.objects.filter(outcome="no-node").count() == 2


def test_outputs_beyond_what_can_be_held_end_the_batch(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "ANSWER_MAX_BYTES", 60)
    monkeypatch.setattr(batch, "AT_ONCE", 1)
    version = list_doubler(fresh_name("doubler"))
    results = post(version.model_id, values(1, 2, 3, 4, 5)).json()["results"]
    assert [each["status"] for each in results] == [200, 200, 413, 413, 413]
    assert results[2]["receipt"] is None
    assert Call.objects.count() == 2


def test_inputs_whose_turn_never_came_say_so(post: Post, settings: Any) -> None:
    settings.CALL_DEADLINE_SECONDS = 2
    code = serving.ECHO.replace(
        "        return", "        __import__('time').sleep(1.2)\n        return"
    )
    version = serving.list_python(fresh_name("slow"), code)
    post(version.model_id, [{"text": "warm"}])
    inputs = [{"text": str(number)} for number in range(batch.AT_ONCE + 2)]
    results = post(version.model_id, inputs).json()["results"]
    assert {each["status"] for each in results} <= {200, 502, 503, 504}
    untried = [each for each in results if each["receipt"] is None]
    assert {each["problem"]["type"] for each in untried} <= {"/problems/timed-out"}
