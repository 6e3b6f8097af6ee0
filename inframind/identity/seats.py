"""Appointing curators and ending seats. None is deleted: they say who held what when."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from inframind.identity import changes
from inframind.identity.models import Seat, Wallet
from inframind.lib.problem import Problem, not_found


def open_seats() -> QuerySet[Seat]:
    """Every seat that has not ended, begun or not."""
    return Seat.objects.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=Now()))


@transaction.atomic
def appoint_curator(
    *, wallet: Wallet, ends_at: datetime | None, reason: str, granted_by: Wallet | None
) -> Seat:
    """A seat from now until ``ends_at`` (None: until it is ended).

    Raises ``Problem`` 409 when the wallet holds one, 422 for an end in the past or no reason.
    """
    if ends_at is not None and ends_at <= timezone.now():
        raise _unusable("A seat ends in the future.")
    reason = _reason(reason)
    locked = Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
    held = open_seats().filter(wallet=locked, role=Seat.Role.CURATOR).first()
    if held is not None:
        until = f"until {held.ends_at:%Y-%m-%d %H:%M} UTC" if held.ends_at else "without an end"
        raise Problem(
            "seat-held",
            f"{locked.pk} holds a curator's seat already, {until}.",
            status=409,
            remedy="End that one first.",
        )
    seat = Seat.objects.create(
        wallet=locked,
        role=Seat.Role.CURATOR,
        ends_at=ends_at,
        reason=reason,
        granted_by=granted_by,
    )
    seat.refresh_from_db()
    return seat


@transaction.atomic
def end_seat(*, seat: Seat, reason: str, ended_by: Wallet | None) -> Seat:
    """Ends a seat at once; its powers end with the next request. Raises ``Problem`` 404 for a seat
    that has ended, 422 without a reason."""
    reason = _reason(reason)
    changed = (
        open_seats()
        .filter(pk=seat.pk)
        .update(
            # A seat ends after it begins, also one that was to begin later.
            ends_at=Greatest(Now(), F("begins_at") + timedelta(microseconds=1)),
            end_reason=reason,
            ended_by=ended_by,
        )
    )
    if not changed:
        raise not_found("open seat like this", "It has ended already.")
    changes.wallet_changed(seat.wallet_id)
    seat.refresh_from_db()
    return seat


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not 0 < len(reason) <= 200:
        raise _unusable("A reason of 1 to 200 characters is needed.")
    return reason


def _unusable(detail: str) -> Problem:
    return Problem("seat-invalid", detail, status=422)
