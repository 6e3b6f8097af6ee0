"""Looking after nodes: are they up, and do they still hold what we placed there?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db.models import Q
from django.db.models.functions import Now

from marketplace.mesh import client, modelconfig
from marketplace.mesh.models import Node, Placement, Probe

DOWN_AFTER_FAILURES: Final = 2
# A row for every look would be millions a month: one in this time, and one for every change.
RECORD_EVERY: Final = timedelta(seconds=15)
KEEP: Final = timedelta(days=31)
_PARALLEL_LOOKS: Final = 16


@dataclass(frozen=True)
class _Look:
    ok: bool
    latency_us: int
    detail: str = ""


def probe_all() -> dict[str, bool]:
    """Looks at every node and every placed model; returns node name → up.

    A model that a node lost (it was restarted) goes back to ``loading`` and is due at once.
    """
    nodes = list(Node.objects.exclude(state=Node.State.SUSPENDED))
    placements = list(
        Placement.objects.filter(node__in=nodes, state=Placement.State.READY).select_related("node")
    )
    with ThreadPoolExecutor(_PARALLEL_LOOKS, thread_name_prefix="probe") as threads:
        node_looks = dict(
            zip(
                [node.pk for node in nodes],
                threads.map(_look_at_node, nodes),
                strict=True,
            )
        )
        model_looks = list(
            threads.map(
                lambda each: _look_at_model(each) if node_looks[each.node_id].ok else None,
                placements,
            )
        )
    for node in nodes:
        _note_node(node, node_looks[node.pk])
    for placement, look in zip(placements, model_looks, strict=True):
        if look is None:
            look = _Look(False, 0, "The node does not answer.")
        elif not look.ok:
            # Only if nobody loaded it again meanwhile.
            Placement.objects.filter(
                pk=placement.pk, state=Placement.State.READY, ready_at=placement.ready_at
            ).update(
                state=Placement.State.LOADING,
                lease_expires_at=None,
                reason="The node no longer holds the model.",
            )
        _record(placement.node, placement, look)
    return {node.name: node_looks[node.pk].ok for node in nodes}


def forget_old_probes() -> int:
    """Deletes probes older than any figure that is shown; returns how many."""
    deleted, _ = Probe.objects.filter(created_at__lt=Now() - KEEP).delete()
    return deleted


def _look_at_node(node: Node) -> _Look:
    started = time.perf_counter()
    ok = client.server_live(client.Address(node.endpoint))
    return _Look(ok, _since(started), "" if ok else "The server does not answer.")


def _look_at_model(placement: Placement) -> _Look:
    started = time.perf_counter()
    address = client.Address(placement.node.endpoint)
    ok = client.model_ready(address, modelconfig.triton_name(placement.version_id))
    return _Look(ok, _since(started), "" if ok else "The node no longer holds the model.")


def _since(started: float) -> int:
    return round((time.perf_counter() - started) * 1_000_000)


def _note_node(node: Node, look: _Look) -> None:
    failures = 0 if look.ok else node.failures_in_a_row + 1
    changes: dict[str, object] = {"probed_at": Now(), "failures_in_a_row": failures}
    if look.ok and node.state != Node.State.READY:
        changes |= {"state": Node.State.READY, "state_reason": "", "ready_at": Now()}
    if failures >= DOWN_AFTER_FAILURES or (failures and node.state == Node.State.DOWN):
        changes |= {"state": Node.State.DOWN, "state_reason": look.detail}
    Node.objects.filter(pk=node.pk).exclude(state=Node.State.SUSPENDED).update(**changes)
    _record(node, None, look)


def _record(node: Node, placement: Placement | None, look: _Look) -> None:
    version_id = placement.version_id if placement else None
    subject = Q(version_id=version_id) if version_id else Q(version=None)
    latest = (
        Probe.objects.filter(subject, node=node, created_at__gt=Now() - RECORD_EVERY)
        .order_by("-created_at")
        .first()
    )
    if latest and latest.ok == look.ok:
        return
    Probe.objects.create(
        node=node,
        version_id=version_id,
        ok=look.ok,
        latency_us=look.latency_us,
        detail=look.detail[:200],
    )
