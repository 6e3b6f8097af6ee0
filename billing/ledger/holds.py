"""Holds: money set aside for somebody, then settled, given back, or expired.

The account that the money is held on keeps it until a part is settled; that part becomes a
transfer. An ending says how much of a hold it ends, so the parts of a hold never exceed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from billing.ledger import accounts, transfers
from billing.ledger.models import Hold, HoldEnding, Reason
from billing.ledger.refusals import (
    breaks,
    hold_differs,
    hold_ended,
    malformed,
    transfer_differs,
)
from billing.ledger.transfers import Posting
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import not_found

EXPIRED_AT_ONCE: Final = 500

_SETTLED_ONCE: Final = "ledger_holdending_transfer_id_key"

_HOLD: Final = """
    INSERT INTO ledger_hold (
        id, debit_id, credit_id, amount_base_units, remaining_base_units, reason, subject,
        expires_at
    )
    SELECT id, debit_id, credit_id, amount, amount, reason, subject, expires_at
    FROM unnest(
        %(ids)s::uuid[], %(debits)s::bigint[], %(credits)s::bigint[], %(amounts)s::numeric[],
        %(reasons)s::text[], %(subjects)s::text[], %(expiries)s::timestamptz[]
    ) AS asked (id, debit_id, credit_id, amount, reason, subject, expires_at)
    ORDER BY id
    ON CONFLICT (id) DO NOTHING
"""
_END: Final = """
    INSERT INTO ledger_holdending (id, hold_id, kind, amount_base_units, transfer_id)
    SELECT * FROM unnest(
        %(ids)s::uuid[], %(holds)s::uuid[], %(kinds)s::text[], %(amounts)s::numeric[],
        %(transfers)s::uuid[]
    )
"""
_DUE: Final = """
    SELECT id FROM ledger_hold
    WHERE remaining_base_units > 0 AND expires_at <= now() ORDER BY expires_at LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A hold to be, of ``amount_base_units`` (1 to 2**256 - 1); accounts are named by codes.

    ``expires_at``: from then on the sweep gives back what remains; None: it stays.
    """

    id: UUID
    debit: str
    credit: str
    amount_base_units: int
    reason: Reason
    subject: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settling:
    """``amount_base_units`` of a hold (None: all that remains) become the transfer of this id.

    ``release_rest``: what then remains is given back at once.
    """

    hold_id: UUID
    transfer_id: UUID
    amount_base_units: int | None = None
    release_rest: bool = False


def hold(requests: Sequence[HoldRequest]) -> int:
    """Sets money aside; how many holds were new. Opens the accounts that they name.

    Raises ``Problem``: 402 ``insufficient-funds``, 409 ``hold-differs`` for an id that has another
    content, 400 for what is no hold. Then nothing is held.
    """
    asked: dict[UUID, HoldRequest] = {}
    for each in requests:
        accounts.check(each.amount_base_units, each.debit, each.credit, each.subject)
        if each.expires_at is not None and each.expires_at.tzinfo is None:
            raise malformed("The time a hold expires at needs its time zone.")
        if asked.setdefault(each.id, each) != each:
            raise hold_differs(each.id)
    if not asked:
        return 0
    with accounts.moving(code for each in requests for code in (each.debit, each.credit)) as ids:
        return _hold(list(asked.values()), ids)


def settle(settlings: Sequence[Settling]) -> int:
    """Turns holds, or parts of them, into transfers; how many were new.

    A transfer that this hold was settled by already counts as done. Raises ``Problem``: 404 for a
    hold that does not exist, 409 ``hold-ended`` where less remains than is asked for, 409
    ``transfer-differs`` where the transfer's id is taken by anything else. Then nothing is moved.
    """
    if not settlings:
        return 0
    wanted = list(dict.fromkeys(each.hold_id for each in settlings))
    try:
        with accounts.moving(_codes_of(wanted, credits=True)) as ids:
            return _settle(settlings, _locked_holds(wanted), ids)
    except IntegrityError as error:
        if breaks(error) != _SETTLED_ONCE:
            raise
        # Another hold was settled by the same transfer's id, at the same moment.
        raise transfer_differs(settlings[0].transfer_id) from error


def release(holds: Iterable[UUID]) -> int:
    """Gives back what remains of holds, as agreed; how many had something left.

    Raises ``Problem`` 404 for a hold that does not exist; then nothing is given back.
    """
    return _give_back(list(holds), HoldEnding.Kind.RELEASED)


def void(holds: Iterable[UUID]) -> int:
    """Gives back what remains of holds, since what they were for fell through. As ``release``."""
    return _give_back(list(holds), HoldEnding.Kind.VOIDED)


def expire_due() -> int:
    """Gives back what remains of holds whose time is over; how many, in transactions of some
    hundred each."""
    expired = 0
    while True:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(_DUE, {"limit": EXPIRED_AT_ONCE})
                due = [pk for (pk,) in cursor.fetchall()]
            if not due:
                return expired
            expired += _give_back(due, HoldEnding.Kind.EXPIRED)


def _hold(requests: list[HoldRequest], ids: dict[str, int]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            _HOLD,
            {
                "ids": [each.id for each in requests],
                "debits": [ids[each.debit] for each in requests],
                "credits": [ids[each.credit] for each in requests],
                "amounts": [each.amount_base_units for each in requests],
                "reasons": [str(each.reason) for each in requests],
                "subjects": [each.subject for each in requests],
                "expiries": [each.expires_at for each in requests],
            },
        )
        new = int(cursor.rowcount)
    if new < len(requests):
        found = _requests_of(Hold.objects.in_bulk([each.id for each in requests]).values())
        for each in requests:
            if found[each.id] != each:
                raise hold_differs(each.id)
    return new


def _requests_of(holds: Iterable[Hold]) -> dict[UUID, HoldRequest]:
    rows = list(holds)
    names = accounts.codes_of(rows)
    return {
        each.pk: HoldRequest(
            each.pk,
            names[each.debit_id],
            names[each.credit_id],
            int(each.amount_base_units),
            Reason(each.reason),
            each.subject,
            each.expires_at,
        )
        for each in rows
    }


def _settle(settlings: Sequence[Settling], holds: dict[UUID, Hold], ids: dict[str, int]) -> int:
    requests = _requests_of(holds.values())
    left = {pk: int(each.remaining_base_units) for pk, each in holds.items()}
    done = {
        each.transfer_id: each
        for each in HoldEnding.objects.filter(
            transfer__in=[settling.transfer_id for settling in settlings]
        )
    }
    taken = transfers.stored([each.transfer_id for each in settlings]).keys() - done.keys()
    endings: list[HoldEnding] = []
    postings: list[Posting] = []
    for each in settlings:
        if each.transfer_id in taken:
            raise transfer_differs(each.transfer_id)
        before = done.get(each.transfer_id)
        if before is not None:
            asked = each.amount_base_units
            if (
                before.hold_id != each.hold_id
                or (asked is not None and asked != before.amount_base_units)
                or (each.release_rest and left[each.hold_id])
            ):
                raise transfer_differs(each.transfer_id)
            continue
        remaining = left[each.hold_id]
        amount = remaining if each.amount_base_units is None else each.amount_base_units
        if not 0 < amount <= remaining:
            raise hold_ended(each.hold_id, remaining, amount)
        left[each.hold_id] = 0 if each.release_rest else remaining - amount
        settled = HoldEnding(
            hold_id=each.hold_id,
            kind=HoldEnding.Kind.SETTLED,
            amount_base_units=amount,
            transfer_id=each.transfer_id,
        )
        endings.append(settled)
        done[each.transfer_id] = settled
        if each.release_rest and remaining > amount:
            endings.append(
                HoldEnding(
                    hold_id=each.hold_id,
                    kind=HoldEnding.Kind.RELEASED,
                    amount_base_units=remaining - amount,
                )
            )
        held = requests[each.hold_id]
        postings.append(
            Posting(each.transfer_id, held.debit, held.credit, amount, held.reason, held.subject)
        )
    if not postings:
        return 0
    # The money is free for a moment before it moves, on an account that is locked: the other way
    # round, one that holds all it has would be below its floor in between.
    _end(endings)
    if transfers.write(postings, ids) < len(postings):
        raise transfer_differs(postings[0].id)
    return len(postings)


def _give_back(holds: list[UUID], kind: HoldEnding.Kind) -> int:
    if not holds:
        return 0
    with accounts.moving(_codes_of(holds, credits=False)):
        endings = [
            HoldEnding(hold_id=pk, kind=kind, amount_base_units=each.remaining_base_units)
            for pk, each in _locked_holds(holds).items()
            if each.remaining_base_units
        ]
        _end(endings)
        return len(endings)


def _end(endings: Sequence[HoldEnding]) -> None:
    if not endings:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            _END,
            {
                "ids": [new_uuid7() for _ in endings],
                "holds": [each.hold_id for each in endings],
                "kinds": [str(each.kind) for each in endings],
                "amounts": [int(each.amount_base_units) for each in endings],
                "transfers": [each.transfer_id for each in endings],
            },
        )


def _codes_of(holds: Sequence[UUID], *, credits: bool) -> set[str]:
    rows = Hold.objects.filter(pk__in=holds).values_list("debit__code", "credit__code")
    return {code for row in rows for code in (row if credits else row[:1])}


def _locked_holds(wanted: Sequence[UUID]) -> dict[UUID, Hold]:
    """Has to come after the locks of their accounts."""
    found = Hold.objects.filter(pk__in=wanted).order_by("pk").select_for_update(no_key=True)
    holds = {each.pk: each for each in found}
    for pk in wanted:
        if pk not in holds:
            raise not_found(f"hold {pk}", "Nothing was moved. Look at its id again.")
    return holds
