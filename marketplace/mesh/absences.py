"""Why a version does not run where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from marketplace.catalog.models import Version
from marketplace.mesh.eligibility import refusal
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.placing import offered_of, wanted_of


@dataclass(frozen=True)
class Absence:
    """A node that holds no copy to call."""

    node_name: str
    node_state: str
    why: str


def absences(version_id: UUID) -> list[Absence]:
    """Every node without a ready copy of the version, by name."""
    version = Version.objects.select_related("model").get(pk=version_id)
    wanted = wanted_of(version)
    placements = {each.node_id: each for each in Placement.objects.filter(version=version)}
    found = []
    for node in Node.objects.order_by("name"):
        placement = placements.get(node.pk)
        if node.state == Node.State.SUSPENDED:
            why = f"The node is suspended. {node.state_reason}".strip()
        elif refused := refusal(wanted, offered_of(node)):
            why = refused
        elif placement is None:
            why = "It is not placed there: two copies, and more with demand, are enough."
        elif placement.state == Placement.State.LOADING:
            why = f"It is to be loaded there. {placement.reason}".strip()
        elif placement.state == Placement.State.FAILED:
            why = f"It did not load there: {placement.reason}"
        else:
            continue
        found.append(Absence(node.name, node.state, why))
    return found
