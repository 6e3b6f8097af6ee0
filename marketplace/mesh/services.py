"""Writes of the mesh: nodes from the settings, pins, and what follows from them."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, not_found
from marketplace.catalog.models import Model, Verification
from marketplace.catalog.queries import get_model
from marketplace.mesh import placing, room
from marketplace.mesh.copies import Demand, follow_demand, note_used
from marketplace.mesh.faults import answer_faults
from marketplace.mesh.models import Node, NodeGrant, Pin, Placement
from marketplace.mesh.placing import ensure_placed, place
from marketplace.mesh.probing import probe_all
from marketplace.mesh.registration import NodeOffer, issue_challenge, register_node
from marketplace.mesh.room import SERVABLE
from marketplace.mesh.secrets import seal
from marketplace.mesh.standing import Job, judge, note_jobs, reinstate, suspend, walked_until

__all__ = [
    "Demand",
    "Job",
    "NodeOffer",
    "answer_faults",
    "due_placements",
    "ensure_placed",
    "follow_demand",
    "issue_challenge",
    "judge",
    "name_node",
    "note_jobs",
    "note_used",
    "owned",
    "pin",
    "place",
    "place_due",
    "place_pinned",
    "probe_all",
    "register_node",
    "reinstate",
    "retire",
    "suspend",
    "sync_configured_nodes",
    "unname_node",
    "unpin",
    "walked_until",
]

# Nobody holds this key: nodes from the settings belong to whoever runs the server.
HOUSE_OPERATOR: Final = "0x0000000000000000000000000000000000000000"


def sync_configured_nodes() -> list[Node]:
    """Makes the rows of the nodes in ``TRITON_NODES`` say what the settings say. Idempotent."""
    return [_sync(entry) for entry in settings.TRITON_NODES]


@transaction.atomic
def _sync(entry: dict[str, Any]) -> Node:
    sandbox = bool(entry.get("sandbox", False))
    operator = Wallet.objects.of(entry.get("operator", HOUSE_OPERATOR))
    endpoint = str(entry["endpoint"]).rstrip("/")
    # Ports of an earlier run can have changed hands; the old holder gets its own row's turn.
    for other in Node.objects.filter(endpoint=endpoint).exclude(name=entry["name"]):
        other.endpoint = f"http://{other.name}.vacated.invalid"
        other.state, other.state_reason = Node.State.DOWN, f"Its address is {entry['name']}'s now."
        other.save(update_fields=["endpoint", "state", "state_reason"])
    node, created = Node.objects.select_for_update().get_or_create(
        name=entry["name"], defaults={"operator": operator, "endpoint": endpoint}
    )
    moved = not created and node.endpoint != endpoint
    node.operator = operator
    node.endpoint = endpoint
    node.metrics_endpoint = entry.get("metrics_endpoint", "")
    node.grpc_endpoint = entry.get("grpc_endpoint", "")
    node.control_header = entry.get("control_header", "")
    node.control_secret_sealed = seal(entry.get("control_secret", ""))
    node.backends = list(entry.get("backends", ["python"]))
    node.gpu_count = int(entry.get("gpu_count", 0))
    node.capacity = int(entry.get("capacity", 8))
    node.privacy_runtimes = list(entry.get("privacy_runtimes", []))
    node.accepts_publisher_code = sandbox
    node.isolation = entry.get("isolation", "")
    node.trusted = not sandbox
    # A suspension ends with a review, wherever the node is by then.
    if (created or moved) and node.state != Node.State.SUSPENDED:
        node.state, node.state_reason = Node.State.DOWN, "Not looked at yet."
    node.save()
    if moved:
        # Another process answers there: what the old one held is gone.
        node.placements.filter(state=Placement.State.READY).update(
            state=Placement.State.LOADING, lease_expires_at=None
        )
    return node


@transaction.atomic
def pin(*, model: Model, source: str, reason: str) -> Pin:
    """Keeps a model's current version loaded on every node that may run it."""
    row, _ = Pin.objects.update_or_create(
        model=model, source=Pin.Source(source), defaults={"reason": reason[:200], "ends_at": None}
    )
    return row


@transaction.atomic
def name_node(*, owner: str, model_name: str, node_name: str) -> NodeGrant:
    """Lets the owner's private versions go to a node. Raises ``Problem`` 403, 404."""
    model = owned(owner=owner, model_name=model_name)
    node = Node.objects.filter(name=node_name.replace("\0", "")).first()
    if node is None:
        raise not_found(f"node called {node_name[:80]}")
    return NodeGrant.objects.get_or_create(model=model, node=node)[0]


@transaction.atomic
def unname_node(*, owner: str, model_name: str, node_name: str) -> None:
    """Takes that back; what is loaded there is unloaded. Raises ``Problem`` 403, 404."""
    model = owned(owner=owner, model_name=model_name)
    NodeGrant.objects.filter(model=model, node__name=node_name.replace("\0", "")).delete()


def owned(*, owner: str, model_name: str) -> Model:
    """The model, if it is the wallet's. Raises ``Problem`` 403, 404."""
    model = get_model(model_name, viewer=Caller(owner))
    if model.owner_id != owner:
        raise Problem(
            "not-yours",
            f"{model.name} belongs to another wallet.",
            status=403,
            remedy="Only its owner names the nodes that it may go to.",
        )
    return model


@transaction.atomic
def unpin(*, model: Model, source: str) -> None:
    """Ends one source's pin; other sources keep theirs."""
    Pin.objects.filter(model=model, source=source, ends_at=None).update(ends_at=Now())


def place_pinned() -> int:
    """Makes due the placements that pins and popularity ask for; returns how many are new."""
    new = 0
    for version in room.pinned().select_related("model"):
        for node in placing.eligible_nodes(version):
            _, created = Placement.objects.get_or_create(
                version=version, node=node, defaults={"state": Placement.State.LOADING}
            )
            new += created
    return new


def due_placements() -> list[tuple[UUID, UUID]]:
    """(version id, node id) of what waits to be loaded on a node that is ready."""
    rows = Placement.objects.filter(
        Q(state=Placement.State.LOADING, lease_expires_at=None)
        | Q(lease_expires_at__lt=Now(), state=Placement.State.LOADING)
        | Q(lease_expires_at__lt=Now(), state=Placement.State.FAILED),
        node__state=Node.State.READY,
        version__state__in=SERVABLE,
    )
    return list(rows.order_by("pk").values_list("version_id", "node_id"))


def place_due() -> int:
    """Loads everything that is due, one after the other; returns how many were tried."""
    due = due_placements()
    for version_id, node_id in due:
        place(version_id=version_id, node_id=node_id)
    return len(due)


def retire() -> int:
    """Unloads what is no longer served nor being verified, and what may not be there any more.

    Returns how many.
    """
    gone = (
        Placement.objects.exclude(version__state__in=SERVABLE)
        .exclude(
            version__verifications__state__in=[
                Verification.State.QUEUED,
                Verification.State.RUNNING,
            ]
        )
        .exclude(state=Placement.State.LOADING, lease_expires_at__gt=Now())
    )
    ids = {*gone.values_list("pk", flat=True), *placing.misplaced()}
    for placement_id in ids:
        room.remove(placement_id=placement_id)
    return len(ids)
