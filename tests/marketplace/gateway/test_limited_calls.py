"""Calls over their limits: refused, free, and alike whatever they named."""

from __future__ import annotations

from typing import Any

import pytest

from inframind.identity.models import Wallet
from marketplace.catalog.models import Model, Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node

from . import money
from .money import FEE, GUEST

STRANGER = "0x4444444444444444444444444444444444444444"
TOLD = "/problems/too-many-calls"
VARYING = {"RateLimit", "Retry-After"}


@pytest.fixture
def version(mesh: list[Node]) -> Version:
    money.fund(GUEST, 50 * FEE)
    return money.paid_doubler()


def test_of_calls_at_once_exactly_the_limit_is_made_and_charged(
    version: Version, settings: Any
) -> None:
    settings.WALLET_CALLS_PER_MINUTE = 5
    token = money.token_of()

    answers = money.at_once([money.request_of(version.model_id, token) for _ in range(12)])

    assert money.kinds(answers) == {"served": 5, TOLD: 7}
    refused = [each for each in answers if each.status == 429]
    assert all(1 <= int(each.headers["Retry-After"]) <= 12 for each in refused)
    # Nothing was written down for the others, and nothing is kept from the wallet.
    assert Call.objects.count() == 5
    assert all("Inframind-Receipt" not in each.headers for each in refused)
    money.idle()
    money.books_are_right()
    assert (money.balance(), money.spent()) == (45 * FEE, 5 * FEE)


def test_guesses_of_names_count_as_calls(version: Version, settings: Any) -> None:
    settings.WALLET_CALLS_PER_MINUTE = 3
    token = money.token_of()
    names = [version.model_id, "no-such-model", "no-such-model", version.model_id, "no-such-model"]

    answers = [money.answer_of(money.request_of(name, token)) for name in names]

    assert [each.status for each in answers] == [200, 404, 404, 429, 429]
    # A refusal tells nothing of the name.
    told = [
        {name: value for name, value in each.headers.items() if name not in VARYING}
        for each in answers[3:]
    ]
    assert told[0] == told[1]


def test_a_token_and_a_model_have_limits_of_their_own(version: Version, settings: Any) -> None:
    settings.TOKEN_CALLS_PER_MINUTE = 2
    settings.MODEL_CALLS_PER_MINUTE = 4
    first, second, third = (money.token_of() for _ in range(3))
    other = money.paid_doubler()

    def status(token: str, model: Version = version) -> tuple[int, str]:
        answer = money.answer_of(money.request_of(model.model_id, token))
        policies = answer.headers["RateLimit-Policy"]
        assert policies.startswith('"wallet";q=6000;w=60, "token";q=2;w=60')
        detail = b"with this token" in answer.document, b"by all callers" in answer.document
        return answer.status, {(True, False): "token", (False, True): "model"}.get(detail, "")

    assert [status(first) for _ in range(3)] == [(200, ""), (200, ""), (429, "token")]
    assert [status(second) for _ in range(2)] == [(200, ""), (200, "")]
    # What the model denies, the token keeps.
    assert [status(third) for _ in range(2)] == [(429, "model"), (429, "model")]
    assert [status(third, other) for _ in range(3)] == [(200, ""), (200, ""), (429, "token")]


def test_the_limit_of_a_private_model_is_told_to_its_callers_alone(
    version: Version, settings: Any
) -> None:
    settings.MODEL_CALLS_PER_MINUTE = 1
    Model.objects.filter(pk=version.model_id).update(
        public=False, auth_required=True, restricted=True, owner=Wallet.objects.of(GUEST)
    )
    mine, theirs = money.token_of(), money.token_of(STRANGER)
    answers = [money.answer_of(money.request_of(version.model_id, mine)) for _ in range(2)]
    assert [each.status for each in answers] == [200, 429]

    hidden, missing = (
        money.answer_of(money.request_of(name, theirs)) for name in (version.model_id, "no-model")
    )

    assert (hidden.status, missing.status) == (404, 404)
    assert hidden.headers["RateLimit-Policy"] == missing.headers["RateLimit-Policy"]


def test_a_call_over_the_limit_leaves_its_key_and_its_tokens_limits_alone(
    version: Version, settings: Any
) -> None:
    settings.WALLET_CALLS_PER_MINUTE = 1
    limited, plain = money.token_of(calls_limit=2), money.token_of()
    assert money.answer_of(money.request_of(version.model_id, plain)).status == 200
    keyed = {"idempotency_key": "the-key"}
    over = [money.request_of(version.model_id, limited, **keyed) for _ in range(3)]
    assert money.kinds(money.at_once(over)) == {TOLD: 3}

    settings.WALLET_CALLS_PER_MINUTE = 6000
    money.idle()
    again = [money.request_of(version.model_id, limited, **wish) for wish in (keyed, {}, {})]
    assert [money.answer_of(each).status for each in again] == [200, 200, 402]


def test_without_redis_calls_are_made_up_to_the_same_limit(version: Version, settings: Any) -> None:
    settings.WALLET_CALLS_PER_MINUTE = 5
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    money.idle()
    token = money.token_of()
    try:
        answers = money.at_once([money.request_of(version.model_id, token) for _ in range(8)])
    finally:
        money.idle()
    assert money.kinds(answers) == {"served": 5, TOLD: 3}
    assert money.spent() == 5 * FEE
