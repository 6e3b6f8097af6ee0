"""What is done to epochs: opened, closed, retired, and their parameters changed."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from billing.epochs import closing, sources
from billing.epochs.models import BASIS_POINTS, Epoch, Parameters
from billing.epochs.opening import alone, current, database_time, latest_parameters, open_epoch_on
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, Violation, not_found
from inframind.storage import dumps
from inframind.storage.errors import StorageError

__all__ = [
    "Closed",
    "change_parameters",
    "close",
    "close_due",
    "current",
    "open_epoch_on",
    "retire_due",
]

logger: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Fees of a day in one tree at most, and of ten years: anything else is a slip of the hand.
MIN_EPOCH_SECONDS = 1
MAX_EPOCH_SECONDS = 10 * 366 * 86_400
_UNSEALED = (Epoch.State.OPEN, Epoch.State.CLOSING)


@dataclass(frozen=True)
class Closed:
    """What one round of closing came to: the epochs sealed, and those that would not be."""

    sealed: tuple[int, ...]
    failed: tuple[int, ...]


def close(epoch: int | None = None, *, at_once: bool = False) -> Epoch:
    """Takes an epoch down to its sealed root, and every closing one before it; returns it.

    ``epoch``: the open one where none is named. An open one is closed when it is due, or
    ``at_once``; else it is returned as it is. Waits for another closer at the same epoch. Raises a
    404 ``Problem`` for an epoch that never was, a 409 one where it does not add up,
    StoreUnavailable.
    """
    number = current().number if epoch is None else epoch
    found = Epoch.objects.filter(number=number).first()
    if found is None:
        raise not_found(f"epoch {number}")
    closing_too = not (
        found.state == Epoch.State.OPEN and not at_once and found.ends_at > database_time()
    )
    if closing_too:
        closing.shut(number)
    for each in _closing(number):
        closing.drive(each)
    return Epoch.objects.get(number=number)


def close_due() -> Closed:
    """Closes the open epoch when its time has passed, and goes on with every closing one.

    Leaves alone what another closer is at. An epoch that cannot be sealed keeps later ones from
    being sealed, not from being closed.
    """
    found = current()
    if found.ends_at <= database_time():
        closing.shut(found.number)
    sealed: list[int] = []
    for number in _closing():
        try:
            closing.drive(number, wait=False)
        except closing.Elsewhere:
            break
        except (Problem, StorageError) as error:
            logger.error("epoch_not_sealed", epoch=number, reason=str(error))
            return Closed(tuple(sealed), (number,))
        sealed.append(number)
    return Closed(tuple(sealed), ())


def retire_due() -> list[int]:
    """Lets the receipts of old sealed epochs leave the database; returns their numbers.

    Only those whose published dump is here, every byte as its CID says. Raises StoreUnavailable.
    """
    settled = Epoch.objects.exclude(state__in=_UNSEALED).order_by("-number")
    kept = settled.values_list("number", flat=True)[: settings.RECEIPT_EPOCHS_KEPT]
    oldest_kept = min(kept, default=0)
    retired = []
    for epoch in settled.filter(number__lt=oldest_kept, retired_at=None).order_by("number"):
        if not dumps.is_whole(epoch.receipts_cid):
            logger.error("receipts_not_retired", epoch=epoch.number, cid=epoch.receipts_cid)
            continue
        if _retire(epoch.number):
            retired.append(epoch.number)
    return retired


def change_parameters(
    *,
    by: Wallet | None,
    reason: str,
    node_basis_points: int | None = None,
    owner_basis_points: int | None = None,
    epoch_seconds: int | None = None,
) -> Parameters:
    """Writes a new version of the parameters; what is not given stays as it was.

    It holds for calls from then on; an epoch that is open already ends when it was to end. Raises
    a 400 ``Problem`` for shares of more than everything, a length out of range, or no reason.
    """
    with transaction.atomic():
        alone()
        latest = latest_parameters()
        node = latest.node_basis_points if node_basis_points is None else node_basis_points
        owner = latest.owner_basis_points if owner_basis_points is None else owner_basis_points
        seconds = latest.epoch_seconds if epoch_seconds is None else epoch_seconds
        _require_parameters(node, owner, seconds, reason)
        return Parameters.objects.create(
            version=latest.version + 1,
            node_basis_points=node,
            owner_basis_points=owner,
            epoch_seconds=seconds,
            reason=reason.strip(),
            changed_by=by,
        )


def _closing(up_to: int | None = None) -> list[int]:
    found = Epoch.objects.filter(state=Epoch.State.CLOSING).order_by("number")
    if up_to is not None:
        found = found.filter(number__lte=up_to)
    return list(found.values_list("number", flat=True))


def _retire(number: int) -> bool:
    with transaction.atomic():
        epoch = Epoch.objects.select_for_update(skip_locked=True).filter(number=number).first()
        if epoch is None or epoch.retired_at is not None:
            return False
        sources.receipts().retire(number)
        Epoch.objects.filter(number=number).update(retired_at=Now())
    return True


def _require_parameters(node: int, owner: int, seconds: int, reason: str) -> None:
    violations: list[Violation] = []

    def refuse(pointer: str, detail: str, remedy: str) -> None:
        violations.append(Violation(pointer, detail, remedy))

    for pointer, value in (("/node_basis_points", node), ("/owner_basis_points", owner)):
        if not 0 <= value <= BASIS_POINTS:
            refuse(pointer, f"{value} is no share.", f"Give 0 to {BASIS_POINTS}.")
    if not violations and node + owner > BASIS_POINTS:
        refuse(
            "/owner_basis_points",
            f"Node and owner would share {node + owner} of {BASIS_POINTS}.",
            "Lower one of them; what both leave is the treasury's.",
        )
    if not MIN_EPOCH_SECONDS <= seconds <= MAX_EPOCH_SECONDS:
        refuse(
            "/epoch_seconds",
            f"An epoch of {seconds} seconds is not possible.",
            f"Give {MIN_EPOCH_SECONDS} to {MAX_EPOCH_SECONDS}; a week is 604800.",
        )
    if not 0 < len(reason.strip()) <= 200:
        refuse("/reason", "Why the parameters change is not said.", "Give 1 to 200 characters.")
    if violations:
        raise Problem(
            "parameters-refused",
            "The parameters stay as they are.",
            remedy="Mend what is named and try again.",
            violations=tuple(violations),
        )
