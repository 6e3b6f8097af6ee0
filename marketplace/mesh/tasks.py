"""Background work of the mesh. Rows drive it: a lost message costs one round."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from marketplace.mesh import services
from marketplace.mesh.probing import forget_old_probes
from marketplace.mesh.rounds import alone

_PROBE_LEASE_SECONDS = 30.0


@worker_ready.connect
def know_configured_nodes(**_: Any) -> None:
    """A starting worker makes the nodes of the settings known; nobody has to ask for it."""
    services.sync_configured_nodes()


@shared_task(name="mesh.probe_nodes", expires=5)
def probe_nodes() -> None:
    """Looks at every node, then hands out what has to be loaded (again)."""
    if not alone("mesh:probe", services.probe_all, lease_seconds=_PROBE_LEASE_SECONDS):
        return
    for version_id, node_id in services.due_placements():
        place.delay(str(version_id), str(node_id))


@shared_task(name="mesh.place_pinned", expires=15)
def place_pinned() -> None:
    """Makes pins and popularity true, unloads what is no longer served, forgets old probes."""
    services.place_pinned()
    services.retire()
    forget_old_probes()


@shared_task(name="mesh.place", expires=60)
def place(version_id: str, node_id: str) -> None:
    """Loads one version on one node; the row's lease keeps two workers from doing it twice."""
    services.place(version_id=UUID(version_id), node_id=UUID(node_id))
