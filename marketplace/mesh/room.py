"""Room on nodes: what never has to go, what goes first, and how it goes without hurting a call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest, Now

from marketplace.catalog.models import Verification, Version
from marketplace.mesh import client, control, modelconfig
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.secrets import SecretUnreadable, unseal

SERVABLE: Final = (Version.State.ACTIVE, Version.State.POPULAR, Version.State.DEPRECATED)
# What was loaded or called so lately stays: else two models that are both in use would drive each
# other out with every call.
IN_USE: Final = timedelta(seconds=60)
# A gateway sends calls to a copy for as long after it was taken off the routes.
ROUTES_STALE_SECONDS: Final = 1.0
_VACATING: Final = timedelta(seconds=30)
_UNLOAD_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class NodeFull(Exception):
    """All that the node holds is pinned or in use."""


def pinned() -> QuerySet[Version]:
    """Versions that stay loaded whatever happens: popular ones, and the current ones of pins."""
    return Version.objects.filter(
        Q(state=Version.State.POPULAR)
        | Q(pk=F("model__current"), model__pins__isnull=False)
        & (Q(model__pins__ends_at=None) | Q(model__pins__ends_at__gt=Now())),
        state__in=SERVABLE,
    ).distinct()


def make_room(placement: Placement) -> None:
    """Lets one more model fit on the placement's node: the least lately used one goes.

    Raises ``NodeFull``.
    """
    while True:
        victim = _victim(placement)
        if victim is None:
            return
        vacate([victim])


def least_used(placements: QuerySet[Placement]) -> QuerySet[Placement]:
    """Those that may go, the one that was used the longest ago first."""
    return (
        placements.filter(state=Placement.State.READY)
        .exclude(version__in=pinned())
        .exclude(version__verifications__state=Verification.State.RUNNING)
        .order_by(Greatest("used_at", "ready_at"), "pk")
    )


def vacate(placements: Sequence[Placement]) -> int:
    """Takes copies off the routes, and unloads and forgets them when no call goes there any more.

    Returns how many. One that was lost, called for or taken meanwhile stays.
    """
    marked = []
    for placement in placements:
        # The lease keeps workers from loading it again; its expiry lets them if this one dies.
        if Placement.objects.filter(
            pk=placement.pk, state=Placement.State.READY, ready_at=placement.ready_at
        ).update(
            state=Placement.State.LOADING,
            reason="It makes room on the node.",
            lease_expires_at=Now() + _VACATING,
        ):
            marked.append(placement.pk)
    if not marked:
        return 0
    time.sleep(ROUTES_STALE_SECONDS)
    gone = 0
    for pk in marked:
        # What a slow unload before it has kept waiting may be a worker's by now.
        held = Now() + timedelta(seconds=_UNLOAD_SECONDS)
        if Placement.objects.filter(pk=pk, lease_expires_at__gt=held).exists():
            remove(placement_id=pk)
            gone += 1
    return gone


def remove(*, placement_id: int) -> None:
    """Unloads and forgets a placement; an unreachable node forgets by itself when it restarts."""
    placement = Placement.objects.select_related("node").filter(pk=placement_id).first()
    if placement is None:
        return
    unload_quietly(placement)
    placement.delete()


def address_of(node: Node) -> client.Address:
    """How to reach and command the node. Raises ``SecretUnreadable``."""
    return client.Address(
        endpoint=node.endpoint,
        grpc_endpoint=node.grpc_endpoint,
        control_header=node.control_header,
        control_secret=unseal(node.control_secret_sealed),
    )


def unload_quietly(placement: Placement) -> None:
    """Unloads; what cannot be reached is logged and left."""
    try:
        control.unload(
            address_of(placement.node),
            modelconfig.triton_name(placement.version_id),
            timeout_seconds=_UNLOAD_SECONDS,
        )
    except (client.NodeError, SecretUnreadable) as error:
        log.info("unload failed", placement=placement.pk, reason=str(error))


@transaction.atomic
def _victim(placement: Placement) -> Placement | None:
    # One at a time on a node, so that two loads do not count on the same room.
    Node.objects.select_for_update(no_key=True).get(pk=placement.node_id)
    held = Placement.objects.filter(node_id=placement.node_id).exclude(pk=placement.pk)
    if held.exclude(state=Placement.State.FAILED).count() < settings.NODE_MODELS_MAX:
        return None
    since = Now() - IN_USE
    in_use = Q(used_at__gte=since) | Q(ready_at__gte=since)
    victim = least_used(held.exclude(in_use)).first()
    if victim is None:
        raise NodeFull(
            f"The node {placement.node.name} is full: all of its {settings.NODE_MODELS_MAX} models "
            "are pinned or in use."
        )
    return victim
