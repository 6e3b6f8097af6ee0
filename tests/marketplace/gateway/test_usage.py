"""What an account has called and spent, by the database's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from inframind.lib import bearer
from inframind.lib.amounts import parse_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.scopes import Caveat
from marketplace.catalog.models import Model, Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node

from ..mesh.serving import OWNER, fresh_name, list_doubler
from ..unsigned import UNSIGNED

GUEST = "0x3333333333333333333333333333333333333333"
FEE = parse_ifm("0.25 IFM")


@pytest.fixture
def versions(mesh: list[Node]) -> list[Version]:
    return [list_doubler(fresh_name("doubler")) for _ in range(2)]


def called(
    version: Version, address: str = GUEST, *, served: bool = True, days_ago: int = 0
) -> None:
    call = Call.objects.create(
        id=new_uuid7(),
        version=version,
        wallet=Wallet.objects.of(address),
        outcome="served" if served else "refused",
        node_name="node-a" if served else "",
        fee_base_units=FEE if served else 0,
        latency_us=1,
        input_digest="sha256:0",
        output_digest="sha256:0" if served else "",
        **UNSIGNED,
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE gateway_call SET created_at = created_at - make_interval(days => %s)"
            " WHERE id = %s",
            [days_ago, call.pk],
        )


def token_of(address: str = GUEST, **wish: Any) -> str:
    given: dict[str, Any] = {
        "name": "test", "actions": ["read:usage"], "lifetime": timedelta(hours=1),
    }  # fmt: skip
    return mint_token(wallet=Wallet.objects.of(address), **{**given, **wish})[1]


def usage(token: str, query: str = "") -> Any:
    client = APIClient(headers={"Authorization": f"Bearer {token}"} if token else None)
    return client.get(f"/api/v1/account/usage{query}")


def sums(document: dict[str, Any]) -> tuple[int, int, str]:
    return document["calls"], document["served"], document["fees"]["text"]


def test_calls_are_summed_by_day_and_by_model(versions: list[Version]) -> None:
    first, second = versions
    for version, served, days_ago in (
        (first, True, 0),
        (first, False, 0),
        (second, True, 1),
        (second, True, 1),
        (second, True, 2),
        (second, True, 3),
    ):
        called(version, served=served, days_ago=days_ago)
    called(first, OWNER)

    document = usage(token_of(), "?days=3").json()

    assert sums(document) == (5, 4, "1 IFM")
    assert [sums(day) for day in document["by_day"]] == [
        (1, 1, "0.25 IFM"),
        (2, 2, "0.5 IFM"),
        (2, 1, "0.25 IFM"),
    ]
    assert document["since"] == document["by_day"][0]["day"]
    assert [(each["model"], *sums(each)) for each in document["by_model"]] == [
        (second.model_id, 3, 3, "0.75 IFM"),
        (first.model_id, 2, 1, "0.25 IFM"),
    ]


def test_a_token_for_some_models_sees_the_calls_of_those_only(versions: list[Version]) -> None:
    first, second = versions
    called(first)
    called(second)
    Model.objects.filter(pk=second.model_id).update(owner=Wallet.objects.of(GUEST))
    everything = token_of()

    def seen(token: str) -> list[str]:
        return sorted(each["model"] for each in usage(token).json()["by_model"])

    assert seen(everything) == sorted([first.model_id, second.model_id])
    assert seen(token_of(models_allowed=[first.model_id])) == [first.model_id]
    assert seen(token_of(model_scope="owned")) == [second.model_id]
    narrowed = bearer.narrow(everything, Caveat(models=frozenset({first.model_id})))
    assert seen(narrowed) == [first.model_id]
    nothing = token_of(models_allowed=["other-v1"])
    assert sums(usage(nothing).json()) == (0, 0, "0 IFM")


@pytest.mark.django_db
def test_an_account_that_called_nothing_has_thirty_empty_days() -> None:
    document = usage(token_of()).json()
    assert sums(document) == (0, 0, "0 IFM")
    assert (document["days"], len(document["by_day"]), document["by_model"]) == (30, 30, [])


@pytest.mark.django_db
@pytest.mark.parametrize("days", ["0", "367", "-1", "1.5", "many", "", "٣", "9" * 5000])
def test_days_out_of_bounds_are_422(days: str) -> None:
    answer = usage(token_of(), f"?days={days}")
    assert (answer.status_code, answer.json()["violations"][0]["pointer"]) == (422, "/days")


@pytest.mark.django_db
def test_usage_needs_its_own_scope() -> None:
    assert usage("").status_code == 401
    answer = usage(token_of(actions=["invoke", "manage", "publish"]))
    assert answer.status_code == 403
    assert 'scope="read:usage"' in answer["WWW-Authenticate"]
