"""What an event on chain means for the books, inside the transaction that notes the event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Max, QuerySet

from billing.epochs.models import Epoch
from billing.ledger import codes
from billing.ledger import services as ledger
from billing.ledger.models import Reason
from billing.ledger.services import InsufficientFunds, Posting, Settling, transfer_id
from billing.payouts.models import Delegation, Event, Withdrawal
from billing.payouts.signals import deposit_credited, payout_confirmed
from inframind.chain.events import Happened

log = structlog.get_logger(__name__)

_KINDS: Final = {
    "Deposited": Event.Kind.DEPOSITED,
    "Claimed": Event.Kind.CLAIMED,
    "Withdrawn": Event.Kind.WITHDRAWN,
    "RootProposed": Event.Kind.ROOT_PROPOSED,
    "RootRevoked": Event.Kind.ROOT_REVOKED,
    "DelegateChanged": Event.Kind.DELEGATED,
}


@dataclass(frozen=True)
class Seen:
    """An event as the chain told it, and its row."""

    happened: Happened
    event: Event


class Impossible(Exception):
    """The chain says what cannot be, by our books: a person has to look first. Says what."""


def event_of(happened: Happened, mined_at: datetime) -> Event:
    """The row of an event, not saved."""
    told, said = happened.arguments, happened.log
    return Event(
        transaction_hash=said.transaction_hash,
        log_index=said.index,
        block_number=said.block_number,
        block_hash=said.block_hash,
        kind=_KINDS[happened.name],
        account=told.get("account", told.get("delegator", "")),
        sender=told.get("from", ""),
        amount_base_units=told.get("amount", told.get("total", 0)),
        cumulative_base_units=told.get("cumulative", 0),
        stream=told.get("stream"),
        epoch_number=told.get("epoch"),
        root=told.get("root"),
        delegate=told.get("toDelegate", ""),
        mined_at=mined_at,
    )


def at(seconds: int) -> datetime:
    """A time of the chain. One that no clock will ever show is the last that one can."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)


def book(seen: Sequence[Seen], *, chain_time: datetime) -> None:
    """Makes the books say what these events say, whose rows are there.

    ``expire`` may follow for the same ``chain_time`` in this transaction: its accounts are locked,
    too. Raises ``Impossible``; the transaction has to be rolled back then.
    """
    if not seen:
        return
    events = [each.event for each in seen]
    # All at once and before anything is written: several batches would lock in another order.
    over = _over(chain_time).values_list("wallet_id", flat=True)
    ledger.locked(_accounts(events) | {codes.wallet_code(address) for address in over})
    _post(events)
    for each in seen:
        event = each.event
        match event.kind:
            case Event.Kind.WITHDRAWN:
                _withdrawn(event)
            case Event.Kind.ROOT_PROPOSED:
                _root_proposed(event, at(each.happened.arguments["claimableAt"]))
            case Event.Kind.ROOT_REVOKED:
                _root_revoked(event)
            case Event.Kind.DELEGATED:
                _delegated(event)
    for event in events:
        transaction.on_commit(partial(_tell, event), robust=True)


def expire(*, chain_time: datetime) -> int:
    """Gives back what vouchers held that the chain takes no more; how many there were.

    ``chain_time`` is the time of a block of which all events are booked. Has to run in the
    transaction of the events, so that none of a voucher can come in between.
    """
    over = list(_over(chain_time).select_for_update().order_by("pk"))
    if over:
        ledger.void([each.hold_id for each in over])
        Withdrawal.objects.filter(pk__in=[each.pk for each in over]).update(
            state=Withdrawal.State.EXPIRED, ended_at=chain_time
        )
    return len(over)


def _over(chain_time: datetime) -> QuerySet[Withdrawal]:
    return Withdrawal.objects.filter(state=Withdrawal.State.OPEN, deadline__lt=chain_time)


def open_claims(*, chain_time: datetime) -> int:
    """Epochs whose challenge time is over become claimable; how many."""
    return Epoch.objects.filter(state=Epoch.State.PROPOSED, claimable_at__lte=chain_time).update(
        state=Epoch.State.CLAIMABLE
    )


def posting_id(event: Event) -> UUID:
    """The id of the transfer that an event becomes: the same one whoever reads it again.

    In another block it is another one, since what a reorganisation took back may come again.
    """
    return transfer_id("chain", event.transaction_hash, event.block_hash, str(event.log_index))


def _accounts(events: Sequence[Event]) -> set[str]:
    names = {codes.CHAIN}
    for event in events:
        match event.kind:
            case Event.Kind.DEPOSITED | Event.Kind.WITHDRAWN:
                names.add(codes.wallet_code(event.account))
            case Event.Kind.CLAIMED:
                names.add(codes.owed_code(event.account, bytes(event.stream or b"")))
    return names


def _post(events: Sequence[Event]) -> None:
    postings: list[Posting] = []
    for event in events:
        if not event.amount_base_units:
            continue
        if event.kind == Event.Kind.DEPOSITED:
            postings.append(_deposited(event))
        elif event.kind == Event.Kind.CLAIMED:
            postings.append(_claimed(event))
    try:
        ledger.post(postings)
    except InsufficientFunds as error:
        raise Impossible(
            f"The chain has paid out more than was earned: {error.detail} Events of blocks "
            f"{events[0].block_number} to {events[-1].block_number}."
        ) from error


def _deposited(event: Event) -> Posting:
    return Posting(
        posting_id(event),
        codes.CHAIN,
        codes.wallet_code(event.account),
        int(event.amount_base_units),
        Reason.DEPOSIT,
        event.transaction_hash,
    )


def _claimed(event: Event) -> Posting:
    return Posting(
        posting_id(event),
        codes.owed_code(event.account, bytes(event.stream or b"")),
        codes.CHAIN,
        int(event.amount_base_units),
        Reason.CLAIM,
        event.transaction_hash,
    )


def _withdrawn(event: Event) -> None:
    row = (
        Withdrawal.objects.select_for_update()
        .filter(wallet_id=event.account, state=Withdrawal.State.OPEN)
        .first()
    )
    amount = int(event.amount_base_units)
    if (
        row is None
        or int(row.amount_base_units) != amount
        or int(row.cumulative_base_units) != int(event.cumulative_base_units)
    ):
        raise Impossible(
            f"{event.account} withdrew {amount} base units on chain (transaction "
            f"{event.transaction_hash}), and no open withdrawal in the books has this amount."
        )
    ledger.settle(
        [
            Settling(
                hold_id=row.hold_id,
                transfer_id=posting_id(event),
                amount_base_units=amount,
                release_rest=True,
            )
        ]
    )
    row.state = Withdrawal.State.PAID
    row.event = event
    row.ended_at = event.mined_at
    row.save(update_fields=["state", "event", "ended_at"])


def _root_proposed(event: Event, claimable_at: datetime) -> None:
    epoch = Epoch.objects.select_for_update().filter(number=event.epoch_number or 0).first()
    root = bytes(event.root or b"")
    total = int(event.amount_base_units)
    if (
        epoch is None
        or epoch.state in (Epoch.State.OPEN, Epoch.State.CLOSING)
        or bytes(epoch.root or b"") != root
        or int(epoch.total_base_units) != total
    ):
        # Claims against it halt the follower by themselves, as they pay what nobody is owed.
        log.error(
            "a foreign root was proposed: revoke it, and change the key that did it",
            epoch=event.epoch_number,
            root="0x" + root.hex(),
            total=str(total),
            transaction=event.transaction_hash,
        )
        return
    epoch.state = Epoch.State.PROPOSED
    epoch.proposed_at = event.mined_at
    epoch.claimable_at = claimable_at
    epoch.save(update_fields=["state", "proposed_at", "claimable_at"])


def _root_revoked(event: Event) -> None:
    revoked = Epoch.objects.filter(
        number=event.epoch_number or 0, state__in=[Epoch.State.PROPOSED, Epoch.State.CLAIMABLE]
    ).update(state=Epoch.State.SEALED, proposed_at=None, claimable_at=None)
    log.error("a root was revoked", epoch=event.epoch_number, known=bool(revoked))


def _delegated(event: Event) -> None:
    kept, created = Delegation.objects.select_for_update().get_or_create(
        address=event.account,
        defaults={
            "delegate": event.delegate,
            "block_number": event.block_number,
            "log_index": event.log_index,
        },
    )
    if not created and (kept.block_number, kept.log_index) < (event.block_number, event.log_index):
        kept.delegate = event.delegate
        kept.block_number, kept.log_index = event.block_number, event.log_index
        kept.save()


def _tell(event: Event) -> None:
    told: dict[str, Any] = {
        "amount_base_units": int(event.amount_base_units),
        "event": event.pk,
    }
    if event.kind == Event.Kind.DEPOSITED:
        deposit_credited.send_robust(sender=Event, wallet=event.account, **told)
    elif event.kind in (Event.Kind.CLAIMED, Event.Kind.WITHDRAWN):
        payout_confirmed.send_robust(sender=Event, kind=event.kind, account=event.account, **told)


def last_withdrawn(address: str) -> int:
    """What vouchers of a wallet have paid by the confirmed events, in base units."""
    rows = Event.objects.filter(account=address, kind=Event.Kind.WITHDRAWN)
    return int(rows.aggregate(most=Max("cumulative_base_units"))["most"] or 0)
