"""``?explain=1``: the owner and staff see where a call would go; nothing runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from inframind.identity.models import Wallet
from marketplace.catalog.models import Model, Version
from marketplace.gateway import explain, loop, resources
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node, Placement

from ..mesh.serving import OWNER, fresh_name, list_doubler
from . import money, rawnodes

STAFF = "0x4444444444444444444444444444444444444444"


@pytest.fixture
def version(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[Version]:
    settings.STORE_DIR = tmp_path / "store"
    settings.ALLOW_LOOPBACK_NODES = True
    yield list_doubler(fresh_name("doubler"))
    loop.stop()


def ask(version: Version, address: str | None, *, method: str = "GET", query: str = "1") -> Any:
    headers = {}
    if address is not None:
        headers["Authorization"] = f"Bearer {money.token_of(address)}"
    return Client().generic(
        method,
        f"/inference/v1/{version.model_id}?explain={query}",
        b'{"values": [1]}',
        content_type="application/json",
        headers=headers,
    )


def nodes(version: Version) -> dict[str, Node]:
    closed = rawnodes.closed_port()
    made = {
        "well": rawnodes.placed("well", closed, version, reputation_bps=9_900),
        "down": rawnodes.placed("down", f"{closed}/1", version, state="down"),
        "unpaid": rawnodes.placed("unpaid", f"{closed}/2", version, paid_calls=False),
        "suspended": rawnodes.placed("suspended", f"{closed}/3", version, state="suspended"),
        "unfit": rawnodes.placed("unfit", f"{closed}/4", version, backends=[]),
        "empty": rawnodes.placed("empty", f"{closed}/5", version),
        "broken": rawnodes.placed("broken", f"{closed}/6", version),
    }
    Placement.objects.filter(node__in=[made["unfit"], made["empty"]]).delete()
    Placement.objects.filter(node=made["broken"]).update(state="failed", reason="No memory.")
    return made


def test_the_owner_sees_every_node_and_why_a_call_would_not_go_there(version: Version) -> None:
    Version.objects.filter(pk=version.pk).update(fee_base_units=money.FEE)
    nodes(version)

    answer = ask(version, OWNER)

    assert answer.status_code == 200
    said = answer.json()
    assert (said["model"], said["paid"], said["best"]) == (
        f"{version.model_id}@1.0.0",
        True,
        "well",
    )
    assert {each["node"]: each["state"] for each in said["candidates"]} == {
        "well": "well",
        "down": "doubtful",
        "unpaid": "no-paid-calls",
    }
    well = next(each for each in said["candidates"] if each["node"] == "well")
    assert (well["why_not"], well["in_flight"], well["limit"]) == ("", 0, 32)
    assert well["reputation_bps"] == 9_900
    assert {each["node"]: each["why_not"].split(":")[0] for each in said["elsewhere"]} == {
        "suspended": "The node is suspended.",
        "unfit": "The node has no backend for ONNX.",
        "empty": "It is not placed there",
        "broken": "It did not load there",
    }
    assert said["retries_left"] == 16
    assert said["hedging"] == {"after_ms": None, "calls_seen": 0}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_runs_and_nothing_is_charged(version: Version, method: str) -> None:
    nodes(version)
    assert ask(version, OWNER, method=method).status_code == 200
    assert Call.objects.count() == 0


def test_an_ejected_node_is_shown_with_the_reason(version: Version) -> None:
    made = nodes(version)
    assert ask(version, OWNER).status_code == 200

    async def eject() -> None:
        router = (await resources.here()).router
        router._loads[made["well"].pk].eject("It closed the connection.", time.monotonic())

    loop.submit(eject(), 5)
    said = ask(version, OWNER).json()
    well = next(each for each in said["candidates"] if each["node"] == "well")
    assert (well["state"], well["why_not"]) == ("ejected", "It closed the connection.")
    assert 0 < well["ejected_for_ms"] <= 1_000
    assert said["best"] == "unpaid"


def test_only_the_owner_and_staff_are_told(version: Version) -> None:
    Wallet.objects.of(STAFF)
    Wallet.objects.filter(pk=STAFF).update(is_staff=True)
    assert ask(version, STAFF).status_code == 200
    stranger = ask(version, money.GUEST)
    assert (stranger.status_code, stranger.json()["type"]) == (403, "/problems/forbidden")
    nobody = ask(version, None)
    assert (nobody.status_code, nobody.json()["type"]) == (401, "/problems/token-required")


def test_of_a_private_model_a_stranger_learns_nothing(version: Version) -> None:
    Model.objects.filter(pk=version.model_id).update(
        public=False, auth_required=True, restricted=True
    )
    private = ask(version, money.GUEST)
    assert private.status_code == 404
    Version.objects.filter(pk=version.pk).update(state="pending")
    missing = Client().get(
        "/inference/v1/no-such-model?explain=1",
        headers={"Authorization": f"Bearer {money.token_of(money.GUEST)}"},
    )
    assert (
        private.json()["detail"].replace(version.model_id, "no-such-model")
        == (missing.json()["detail"])
    )
    assert ask(version, OWNER).status_code == 409


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("explain=1", True),
        ("a=b&explain=true", True),
        ("explain=0", False),
        ("explain=", False),
        ("explained=1", False),
        ("x=explain=1", False),
    ],
)
def test_only_a_clear_wish_is_an_explanation(query: str, wanted: bool) -> None:
    assert explain.asked_for(query) is wanted
