"""Putting a version on a node: the lease, the load, and the reason when it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Case, Count, Q, When
from django.db.models.functions import Now

from inframind.identity import changes
from inframind.storage.errors import StorageError
from marketplace.catalog import packages
from marketplace.catalog.manifest import Manifest
from marketplace.catalog.models import CodeReview, Version
from marketplace.mesh import client, control, modelconfig
from marketplace.mesh.eligibility import Offered, Wanted, refusal
from marketplace.mesh.models import Node, NodeGrant, Placement
from marketplace.mesh.room import NodeFull, address_of, make_room, unload_quietly
from marketplace.mesh.secrets import SecretUnreadable

__all__ = [
    "REPLICAS",
    "RETRY_AFTER_FAILURE",
    "address_of",
    "eligible_nodes",
    "ensure_placed",
    "misplaced",
    "offered_of",
    "place",
    "program_of",
    "wanted_of",
    "why_nowhere",
]

REPLICAS: Final = 2
RETRY_AFTER_FAILURE: Final = timedelta(minutes=5)
RETRY_WHEN_FULL: Final = timedelta(seconds=30)
_LEASE_MARGIN: Final = timedelta(seconds=20)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Claim:
    placement_id: int
    lease_expires_at: datetime


def place(*, version_id: UUID, node_id: UUID, again: bool = False) -> Placement:
    """Loads the version on the node unless it is there, in work, or failed a short while ago.

    ``again`` tries at once after a failure. The row says what came of it; a node that does not
    answer leaves the row in ``loading`` for the next round.
    """
    placement, claim = _claim(version_id, node_id, again=again)
    if claim is None:
        return placement
    started = time.monotonic()
    try:
        make_room(placement)
        _load(placement)
    except NodeFull as full:
        _finish(claim, Placement.State.FAILED, str(full), retry_after=RETRY_WHEN_FULL)
    except client.NodeUnreachable as error:
        _finish(claim, Placement.State.LOADING, str(error))
    except (client.NodeError, StorageError, SecretUnreadable, ValueError) as error:
        # A load that failed or still hangs leaves a model behind that makes the server unready.
        unload_quietly(placement)
        log.warning("placement failed", placement=placement.pk, reason=str(error))
        _finish(claim, Placement.State.FAILED, str(error))
    else:
        took_ms = round((time.monotonic() - started) * 1000)
        _finish(claim, Placement.State.READY, "", duration_ms=took_ms)
    placement.refresh_from_db()
    changes.model_changed(placement.version.model_id)
    return placement


def ensure_placed(version_id: UUID) -> None:
    """Gives a version that runs nowhere its nodes, and loads it on the first of them.

    The rows of further replicas stay due for the workers. Does nothing where no node may run it.
    """
    version = Version.objects.select_related("model").get(pk=version_id)
    nodes = eligible_nodes(version, for_calls=True)
    for node in nodes[:REPLICAS]:
        _row(version_id, node.pk)
    for node in nodes[:REPLICAS]:
        if place(version_id=version_id, node_id=node.pk).state != Placement.State.LOADING:
            return


def eligible_nodes(version: Version, *, for_calls: bool = False) -> list[Node]:
    """Ready nodes that may run the version, the emptiest first; ``for_calls``: only those that may
    have its calls, which one without paid calls has not where they cost something."""
    wanted = wanted_of(version)
    held = Count("placements", filter=~Q(placements__state=Placement.State.FAILED))
    nodes = Node.objects.filter(state=Node.State.READY).alias(held=held).order_by("held", "name")
    if for_calls and version.fee_base_units:
        nodes = nodes.filter(paid_calls=True)
    return [node for node in nodes if not refusal(wanted, offered_of(node))]


def why_nowhere(version: Version) -> str:
    """Why no node may run the version just now; empty when one may."""
    wanted = wanted_of(version)
    reasons = []
    for node in Node.objects.exclude(state=Node.State.SUSPENDED):
        reason = refusal(wanted, offered_of(node))
        if not reason and node.state == Node.State.READY:
            return ""
        reasons.append(reason or f"The node {node.name} is down.")
    return min(reasons, key=reasons.count) if reasons else "No node is registered."


def wanted_of(version: Version) -> Wanted:
    """The version's side of the eligibility rules, read from the database."""
    return _wanted([version])[version.pk]


def misplaced() -> list[int]:
    """Ids of placements that the rules would refuse today: access, trust or a review changed.

    What a worker is just loading is left until it is there: a row removed before would leave the
    package on the node, known to nobody.
    """
    placements = (
        Placement.objects.exclude(state=Placement.State.LOADING, lease_expires_at__gt=Now())
        .select_related("node", "version__model")
        .defer("version__manifest", "version__readme", "version__files")
    )
    wanted = _wanted([placement.version for placement in placements])
    return [
        placement.pk
        for placement in placements
        if refusal(wanted[placement.version_id], offered_of(placement.node))
    ]


def _wanted(versions: Sequence[Version]) -> dict[UUID, Wanted]:
    reviews = CodeReview.objects.filter(cid__in={version.content_cid for version in versions})
    # The newest one of a content comes last and stays.
    verdicts = dict(reviews.order_by("id").values_list("cid", "verdict"))
    named: dict[str, set[str]] = {}
    grants = NodeGrant.objects.filter(model__in={version.model_id for version in versions})
    for model, node in grants.values_list("model_id", "node__name"):
        named.setdefault(model, set()).add(node)
    return {
        version.pk: Wanted(
            runtime=version.runtime,
            public=version.model.public,
            owner=version.model.owner_id,
            code_approved=verdicts.get(version.content_cid) == CodeReview.Verdict.APPROVED,
            named_nodes=frozenset(named.get(version.model_id, ())),
            streaming=version.streaming,
        )
        for version in versions
    }


def offered_of(node: Node) -> Offered:
    """The node's side of the eligibility rules."""
    return Offered(
        backends=frozenset(node.backends),
        accepts_publisher_code=node.accepts_publisher_code,
        trusted=node.trusted,
        operator=node.operator_id,
        name=node.name,
        grpc=bool(node.grpc_endpoint),
    )


def program_of(version: Version) -> modelconfig.Program:
    """What the version's manifest says about running it."""
    manifest = Manifest.model_validate(version.manifest)
    if manifest.tensors is None:
        entrypoint = f"{manifest.entry_file}:{manifest.entry_class}"
        return modelconfig.Program.of_documents(version.pk, entrypoint, streaming=version.streaming)
    return modelconfig.Program(
        version.pk,
        version.runtime,
        manifest.entry_file,
        manifest.tensors.inputs,
        manifest.tensors.outputs,
        manifest.tensors.max_batch_size,
    )


def _row(version_id: UUID, node_id: UUID) -> Placement:
    row, _ = Placement.objects.get_or_create(
        version_id=version_id, node_id=node_id, defaults={"state": Placement.State.LOADING}
    )
    return row


@transaction.atomic
def _claim(version_id: UUID, node_id: UUID, *, again: bool) -> tuple[Placement, _Claim | None]:
    _row(version_id, node_id)
    placement = (
        Placement.objects.select_for_update(of=("self",))
        .select_related("node", "version__model", "version__package_key")
        .annotate(held=Case(When(lease_expires_at__gt=Now(), then=True), default=False))
        .get(version_id=version_id, node_id=node_id)
    )
    loading = placement.state == Placement.State.LOADING
    if placement.state == Placement.State.READY or (placement.held and (loading or not again)):
        return placement, None
    # By the database's clock, which all workers share.
    Placement.objects.filter(pk=placement.pk).update(
        state=Placement.State.LOADING,
        reason="",
        lease_expires_at=Now() + timedelta(seconds=settings.LOAD_DEADLINE_SECONDS) + _LEASE_MARGIN,
    )
    placement.refresh_from_db(fields=["state", "reason", "lease_expires_at"])
    if placement.lease_expires_at is None:
        raise RuntimeError("The lease that was just taken is gone.")
    return placement, _Claim(placement.pk, placement.lease_expires_at)


def _load(placement: Placement) -> None:
    version, node = placement.version, placement.node
    # Asked again here, because a review or a trust can have been taken back since the row was made.
    reason = refusal(wanted_of(version), offered_of(node))
    if reason:
        raise client.LoadFailed(reason)
    seconds = settings.LOAD_DEADLINE_SECONDS
    plan = modelconfig.plan(
        program_of(version),
        modelconfig.Hardware(frozenset(node.backends), node.gpu_count),
        package_paths=[each["path"] for each in version.files],
        load_seconds=max(1, seconds - 5),
        run_seconds=settings.CALL_DEADLINE_SECONDS,
        stream_seconds=settings.STREAM_DEADLINE_SECONDS,
    )
    if placement.ready_at is not None:
        # What is left of it there may be a model whose process died: only a fresh one is well.
        unload_quietly(placement)
    with packages.opened(version) as package:
        control.load(
            address_of(node),
            plan.triton_model,
            config_json=plan.config_json,
            files=list(_files(plan, package)),
            timeout_seconds=seconds,
        )


def _files(plan: modelconfig.Plan, package: packages.Opened) -> Iterator[control.File]:
    for node_path, program in plan.programs.items():
        yield control.File(node_path, iter([program.read_bytes()]))
    if plan.whole_package:
        yield control.File("1/package.tar", package.export_tar())
    for node_path, package_path in plan.package_files.items():
        yield control.File(node_path, package.open(package_path))


def _finish(
    claim: _Claim,
    state: Placement.State,
    reason: str,
    *,
    duration_ms: int = 0,
    retry_after: timedelta = RETRY_AFTER_FAILURE,
) -> None:
    # Only while the lease is still ours: a later worker's result is newer than this one.
    Placement.objects.filter(pk=claim.placement_id, lease_expires_at=claim.lease_expires_at).update(
        state=state,
        reason=reason,
        load_duration_ms=duration_ms,
        lease_expires_at=Now() + retry_after if state == Placement.State.FAILED else None,
        ready_at=Now() if state == Placement.State.READY else None,
    )
