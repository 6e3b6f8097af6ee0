"""Versions on nodes: leases, pins, what a restart loses, what verification borrows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from inframind.devstack.triton import Node as Server
from marketplace.catalog import trial
from marketplace.catalog.models import CodeReview, Model, Version
from marketplace.mesh import client, control, queries, services
from marketplace.mesh.modelconfig import triton_name
from marketplace.mesh.models import Node, Placement, Probe
from marketplace.mesh.placing import address_of, eligible_nodes

from . import serving
from .serving import fresh_name, list_doubler, list_python, list_unary


def holds(node: Node, version: Version) -> bool:
    return client.model_ready(address_of(node), triton_name(version.pk))


def test_a_pinned_model_is_loaded_on_every_node_that_may_run_it(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    services.pin(model=version.model, source="dao", reason="voted")

    assert services.place_pinned() == 2
    assert services.place_pinned() == 0
    services.place_due()

    assert [each.node.name for each in queries.where_runs(version)] == ["node-a", "node-b"]
    assert all(holds(each.node, version) for each in queries.where_runs(version))
    services.unpin(model=version.model, source="dao")
    assert services.place_pinned() == 0


def test_a_node_that_restarts_gets_its_models_back(private_mesh: list[Server]) -> None:
    version = list_doubler(fresh_name("doubler"))
    for node in Node.objects.all():
        services.place(version_id=version.pk, node_id=node.pk)
    victim = Node.objects.get(name=private_mesh[0].name)

    private_mesh[0].kill()
    services.probe_all()
    services.probe_all()
    victim.refresh_from_db()
    assert victim.state == Node.State.DOWN
    private_mesh[0].restart()
    assert services.probe_all()[victim.name] is True
    assert services.due_placements() == [(version.pk, victim.pk)]
    services.place_due()

    assert Placement.objects.filter(version=version, state="ready").count() == 2
    assert holds(victim, version)
    seen = Probe.objects.filter(version=version, node=victim).order_by("pk")
    assert [probe.ok for probe in seen] == [False]


def test_a_big_package_travels_over_grpc(mesh: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    version = list_doubler(fresh_name("doubler"))
    node = eligible_nodes(version)[0]
    monkeypatch.setattr(control, "HTTP_LOAD_BYTES", 0)
    monkeypatch.setattr(control, "HTTP_LOAD_MAX_BYTES", -1)

    placement = services.place(version_id=version.pk, node_id=node.pk)

    assert (placement.state, placement.reason) == ("ready", "")
    assert holds(node, version)


def test_a_lease_keeps_a_second_worker_away(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    node = eligible_nodes(version)[0]
    lease = timezone.now() + timedelta(minutes=1)
    Placement.objects.create(version=version, node=node, state="loading", lease_expires_at=lease)

    placement = services.place(version_id=version.pk, node_id=node.pk)

    assert placement.state == "loading"
    assert not holds(node, version)
    Placement.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert services.place(version_id=version.pk, node_id=node.pk).state == "ready"


def test_a_failure_keeps_its_reason_and_is_not_repeated_at_once(mesh: list[Node]) -> None:
    # Sound on paper, but the library cannot add a number to a text.
    version = list_unary(fresh_name("mixed"), "Neg", graph=serving.mixed_graph())
    node = eligible_nodes(version)[0]

    first = services.place(version_id=version.pk, node_id=node.pk)
    again = services.place(version_id=version.pk, node_id=node.pk)

    assert first.state == again.state == "failed"
    assert "Type Error" in first.reason
    assert again.lease_expires_at == first.lease_expires_at
    assert services.due_placements() == []


def test_a_review_taken_back_keeps_the_code_off(mesh: list[Node]) -> None:
    version = list_python(fresh_name("echo"), serving.ECHO)
    (node,) = eligible_nodes(version)
    review = CodeReview.objects.get(cid=version.cid)
    CodeReview.objects.create(cid=version.cid, verdict="refused", reviewer=review.reviewer)

    placement = services.place(version_id=version.pk, node_id=node.pk)

    assert placement.state == "failed"
    assert "not been reviewed" in placement.reason
    assert not holds(node, version)


def test_what_is_no_longer_served_is_unloaded(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    node = eligible_nodes(version)[0]
    services.place(version_id=version.pk, node_id=node.pk)
    Version.objects.filter(pk=version.pk).update(state=Version.State.DELISTED)

    assert services.retire() == 1

    assert not Placement.objects.exists()
    assert not holds(node, version)


def test_private_models_are_left_out_of_the_list_of_nodes(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    services.place(version_id=version.pk, node_id=eligible_nodes(version)[0].pk)
    assert sum(len(node.placements.all()) for node in queries.nodes()) == 1
    Model.objects.filter(pk=version.model_id).update(
        public=False, auth_required=True, restricted=True
    )
    assert sum(len(node.placements.all()) for node in queries.nodes()) == 0


def test_versions_under_verification_are_left_out_of_the_list_of_nodes(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"))
    services.place(version_id=version.pk, node_id=eligible_nodes(version)[0].pk)
    Version.objects.filter(pk=version.pk).update(state=Version.State.PENDING)
    assert sum(len(node.placements.all()) for node in queries.nodes()) == 0


def test_verification_borrows_a_node(mesh: list[Node]) -> None:
    version = list_doubler(fresh_name("doubler"), activate=False)

    with trial.lend(version) as session:
        assert session.infer({"values": [3]}, timeout_seconds=5) == {
            "values": [6.0],
            "label": "none",
        }
        assert session.load_duration_ms > 0
        assert session.offers_privacy("enclave") is False


@pytest.mark.parametrize(
    ("code", "reviewed", "error", "retry"),
    [
        (serving.ECHO, False, "no-node", True),
        ("raise OSError('no weights')", True, "load-failed", False),
        (serving.ECHO.replace("return {", "return {}[1] or {"), True, "model-failed", False),
    ],
)
def test_a_trial_says_what_failed_and_whether_it_comes_back(
    mesh: list[Node], code: str, reviewed: bool, error: str, retry: bool
) -> None:
    version = list_python(fresh_name("echo"), code, reviewed=reviewed)

    with pytest.raises(trial.TrialFailure) as caught, trial.lend(version) as session:
        session.infer({"text": "x"}, timeout_seconds=5)

    assert (caught.value.code, caught.value.retry) == (error, retry)


def test_settings_and_rows_agree_also_when_ports_change_hands(
    mesh: list[Node], settings: Any
) -> None:
    before = {node.name: node.endpoint for node in mesh}
    a, b = (dict(entry) for entry in settings.TRITON_NODES[:2])
    a["endpoint"], b["endpoint"] = b["endpoint"], a["endpoint"]
    settings.TRITON_NODES = [a, b, *settings.TRITON_NODES[2:]]

    services.sync_configured_nodes()
    services.sync_configured_nodes()

    after = {node.name: node.endpoint for node in Node.objects.all()}
    assert after["node-a"] == before["node-b"]
    assert after["node-b"] == before["node-a"]
    assert len(after) == 3
