"""Reads of the mesh."""

from __future__ import annotations

from django.db.models import Prefetch

from marketplace.catalog import lifecycle
from marketplace.catalog.models import Model, Version
from marketplace.mesh.models import Node, Placement


def ready_node_count() -> int:
    """Nodes that answered the last probe."""
    return Node.objects.filter(state=Node.State.READY).count()


def nodes() -> list[Node]:
    """Every node by name, with its operator and with placements of what everybody may call only."""
    public = Placement.objects.filter(
        version__model__public=True, version__state__in=sorted(lifecycle.CALLABLE)
    ).select_related("version__model")
    return list(
        Node.objects.select_related("operator").prefetch_related(
            Prefetch("placements", queryset=public.order_by("version__model_id"))
        )
    )


def named_nodes(model: Model) -> list[str]:
    """Names of the nodes to which the owner lets private versions go, besides trusted ones."""
    return list(model.node_grants.order_by("node__name").values_list("node__name", flat=True))


def where_runs(version: Version) -> list[Placement]:
    """Where a version is, loading or failed, by node name. Check first who may see it."""
    return list(
        Placement.objects.filter(version=version).select_related("node").order_by("node__name")
    )
