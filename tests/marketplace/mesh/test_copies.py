"""How many copies a version has, which go when a node is full, and which never do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from inframind.devstack.triton import Node as Server
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Verification, Version
from marketplace.mesh import client, services
from marketplace.mesh.copies import copies_wanted
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.placing import address_of, eligible_nodes
from marketplace.mesh.services import Demand

from .serving import fresh_name, list_doubler, list_python

LONG_AGO = timedelta(hours=2)
BUSY, CALM = Demand(load=50.0), Demand(load=0.1)


def holds(node: Node, version: Version) -> bool:
    return client.model_ready(address_of(node), triton_name(version.pk))


def on(node: Node, version: Version, *, used_ago: timedelta = LONG_AGO) -> Placement:
    """Loads it, and says when it was last used."""
    placed = services.place(version_id=version.pk, node_id=node.pk)
    assert (placed.state, placed.reason) == ("ready", "")
    at = timezone.now() - used_ago
    Placement.objects.filter(pk=placed.pk).update(used_at=at, ready_at=at)
    return placed


def nodes_of(version: Version) -> list[tuple[str, str]]:
    found = Placement.objects.filter(version=version).order_by("node__name")
    return list(found.values_list("node__name", "state"))


@pytest.mark.parametrize(
    ("demand", "copies", "wanted"),
    [
        (Demand(0.0), 1, 2),  # whatever is called has a second copy to turn to
        (Demand(5.6), 1, 2),
        (Demand(11.3), 2, 3),
        (Demand(40.0), 2, 10),
        (Demand(0.0, turned_away=1), 2, 3),
        (Demand(3.9), 3, 2),
        (Demand(4.1), 3, 3),
        (Demand(0.0), 2, 2),
    ],
)
def test_copies_follow_the_calls_under_way(demand: Demand, copies: int, wanted: int) -> None:
    assert copies_wanted(demand, copies=copies, capacity=8 * copies) == wanted


@given(st.floats(0, 1e6), st.integers(1, 100), st.integers(1, 64))
def test_what_is_added_is_not_taken_away_at_once(load: float, copies: int, each: int) -> None:
    demand = Demand(load)
    wanted = copies_wanted(demand, copies=copies, capacity=each * copies)
    if wanted > copies:
        again = copies_wanted(demand, copies=wanted, capacity=each * wanted)
        assert again == wanted


def test_a_busy_version_gets_another_copy_and_an_idle_one_gives_it_up(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    a, b = (node for node in mesh if node.name != "sandbox")
    on(a, version)

    assert services.follow_demand({version.pk: BUSY}) == (1, 0)
    assert services.follow_demand({version.pk: BUSY}) == (0, 0)
    services.place_due()

    assert nodes_of(version) == [("node-a", "ready"), ("node-b", "ready")]
    assert holds(b, version)
    # In use: both stay. Idle for long: the one that was called last stays.
    assert services.follow_demand({version.pk: CALM}) == (0, 0)
    assert services.follow_demand({}) == (0, 0)
    Placement.objects.filter(node=b).update(ready_at=timezone.now() - LONG_AGO)
    Placement.objects.filter(node=a).update(used_at=timezone.now() - LONG_AGO / 2)
    assert services.follow_demand({}) == (0, 1)
    assert nodes_of(version) == [("node-a", "ready")]
    assert (holds(a, version), holds(b, version)) == (True, False)
    assert services.follow_demand({}) == (0, 0)


def test_pinned_copies_stay_however_idle(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    for node in eligible_nodes(version):
        on(node, version)
    services.pin(model=version.model, source="dao", reason="voted")
    assert services.follow_demand({}) == (0, 0)
    services.unpin(model=version.model, source="dao")
    assert services.follow_demand({}) == (0, 1)


def test_a_paid_version_gets_no_copy_where_it_would_have_no_calls(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    Version.objects.filter(pk=version.pk).update(fee_base_units=1)
    version.refresh_from_db()
    Node.objects.filter(name="node-b").update(paid_calls=False)
    on(Node.objects.get(name="node-a"), version)
    assert services.follow_demand({version.pk: BUSY}) == (0, 0)
    Node.objects.update(paid_calls=True)
    assert services.follow_demand({version.pk: BUSY}) == (1, 0)


def test_a_full_node_lets_the_least_lately_used_go(mesh: list[Node], settings: Any) -> None:
    node = next(each for each in mesh if each.name == "node-a")
    old, older, new = (list_doubler(fresh_name("doubler")) for _ in range(3))
    on(node, old, used_ago=LONG_AGO)
    on(node, older, used_ago=LONG_AGO * 2)
    settings.NODE_MODELS_MAX = 2

    on(node, new)

    assert [holds(node, each) for each in (old, older, new)] == [True, False, True]
    assert not Placement.objects.filter(version=older).exists()


def test_pins_verification_and_use_keep_a_model_on_a_full_node(
    mesh: list[Node], settings: Any
) -> None:
    node = next(each for each in mesh if each.name == "node-a")
    pinned, checked, used, new = (list_doubler(fresh_name("doubler")) for _ in range(4))
    on(node, pinned)
    services.pin(model=pinned.model, source="popular", reason="much used")
    on(node, checked)
    Verification.objects.filter(version=checked).update(state=Verification.State.RUNNING)
    on(node, used, used_ago=timedelta(seconds=1))
    settings.NODE_MODELS_MAX = 3

    refused = services.place(version_id=new.pk, node_id=node.pk)

    assert (refused.state, refused.reason) == (
        "failed",
        "The node node-a is full: all of its 3 models are pinned or in use.",
    )
    assert all(holds(node, each) for each in (pinned, checked, used))
    assert services.due_placements() == []
    # A minute later the one that nobody used since makes room.
    ago = timezone.now() - LONG_AGO
    Placement.objects.filter(version=used).update(used_at=ago, ready_at=ago)
    assert services.place(version_id=new.pk, node_id=node.pk, again=True).state == "ready"
    assert [holds(node, each) for each in (pinned, checked, used)] == [True, True, False]


def test_a_pin_outlives_a_restart_of_its_node(private_mesh: list[Server]) -> None:
    version = list_doubler(fresh_name("doubler"))
    services.pin(model=version.model, source="dao", reason="voted")
    services.place_pinned()
    services.place_due()
    victim = Node.objects.get(name=private_mesh[0].name)
    private_mesh[0].kill()
    private_mesh[0].restart()
    assert not holds(victim, version)

    services.probe_all()
    services.place_due()

    assert holds(victim, version)


def test_what_runs_only_on_a_dead_node_gets_a_copy_elsewhere(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    a, b = (node for node in mesh if node.name != "sandbox")
    for node in (a, b):
        on(node, version)
    Placement.objects.filter(node=b).delete()
    Node.objects.filter(pk=a.pk).update(state="down")
    # With no copy on a ready node it is the next call that has it loaded.
    assert services.follow_demand({version.pk: BUSY}) == (0, 0)
    services.ensure_placed(version.pk)
    assert nodes_of(version) == [("node-a", "ready"), ("node-b", "ready")]


def test_publisher_code_never_spills_onto_other_nodes(mesh: list[Node]) -> None:
    version = list_python(fresh_name("echo"), "class Model: pass")
    (sandbox,) = eligible_nodes(version)
    Placement.objects.create(
        version=version, node=sandbox, state="ready", ready_at=timezone.now() - LONG_AGO
    )
    assert services.follow_demand({version.pk: BUSY, new_uuid7(): BUSY}) == (0, 0)
