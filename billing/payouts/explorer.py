"""Epochs as anybody may see them: their sums, whether these agree, and where the chain has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Q, QuerySet, Sum

from billing.epochs import sources
from billing.epochs.models import Epoch, Line
from billing.ledger.codes import epoch_code
from billing.ledger.models import Reason, Transfer
from billing.payouts.models import Event, Transaction

# The order of states, and what is said of one that is not reached yet.
STATES: Final = (
    (Epoch.State.OPEN, "Calls are recorded in it"),
    (Epoch.State.CLOSING, "Fees are charged and shared out"),
    (Epoch.State.SEALED, "Its receipts and its tree are published"),
    (Epoch.State.PROPOSED, "Its root waits on chain for its challenge time"),
    (Epoch.State.CLAIMABLE, "Earnings can be claimed on chain"),
)


@dataclass(frozen=True)
class Shown:
    """An epoch with its sums: of one that is not sealed yet, what it has so far.

    ``transaction``: the hash that carries its root, "" where there is none yet.
    """

    epoch: Epoch
    calls: int
    revenue_base_units: int
    transaction: str

    @property
    def is_whole(self) -> bool:
        return self.epoch.state not in (Epoch.State.OPEN, Epoch.State.CLOSING)

    @property
    def total_base_units(self) -> int:
        return int(self.epoch.total_base_units)

    @property
    def root_hex(self) -> str:
        return _hex(self.epoch.root)

    @property
    def receipts_root_hex(self) -> str:
        return _hex(self.epoch.receipts_root)


@dataclass(frozen=True)
class Step:
    """A state of an epoch: when it was reached, or whether it is the one to come."""

    state: str
    word: str
    meaning: str
    at: datetime | None
    is_reached: bool
    is_current: bool


@dataclass(frozen=True)
class Shares:
    """Where an epoch's revenue went, in base units, from the lines and from the books."""

    revenue: int
    charged: int  # what left the payers' balances
    owners: int
    nodes: int
    others: int
    treasury: int

    @property
    def shared_out(self) -> int:
        return self.owners + self.nodes + self.others + self.treasury

    @property
    def agree(self) -> bool:
        return self.revenue == self.charged == self.shared_out


def shown(epochs: Sequence[Epoch]) -> list[Shown]:
    """The epochs with their sums and transactions, in two queries and one more for an open one."""
    transactions = _transactions([each.number for each in epochs])
    found = []
    for epoch in epochs:
        calls, revenue = epoch.receipt_count, int(epoch.revenue_base_units)
        if epoch.state in (Epoch.State.OPEN, Epoch.State.CLOSING):
            so_far = sources.receipts().so_far(epoch.number)
            calls, revenue = so_far.calls, so_far.fees_base_units
        found.append(Shown(epoch, calls, revenue, transactions.get(epoch.number, "")))
    return found


def steps_of(epoch: Epoch) -> list[Step]:
    """The states in their order, each with its time."""
    times = {
        Epoch.State.OPEN: epoch.opened_at,
        Epoch.State.CLOSING: epoch.closed_at,
        Epoch.State.SEALED: epoch.sealed_at,
        Epoch.State.PROPOSED: epoch.proposed_at,
        Epoch.State.CLAIMABLE: epoch.claimable_at,
    }
    order = [state for state, _ in STATES]
    here = order.index(Epoch.State(epoch.state))
    return [
        Step(
            state=state.value,
            word=state.label,
            meaning=meaning,
            at=times[state],
            is_reached=place <= here,
            is_current=place == here,
        )
        for place, (state, meaning) in enumerate(STATES)
    ]


def shares_of(epoch: Epoch) -> Shares:
    """Where a sealed epoch's revenue went."""
    rows = Line.objects.filter(epoch=epoch).values("share").annotate(paid=Sum("amount_base_units"))
    paid = {row["share"]: int(row["paid"]) for row in rows}
    code = epoch_code(epoch.number)
    return Shares(
        revenue=int(epoch.revenue_base_units),
        charged=_moved(credit__code=code, reason=Reason.CHARGE),
        owners=paid.get(Line.Share.OWNER, 0),
        nodes=paid.get(Line.Share.NODE, 0),
        others=paid.get(Line.Share.OTHER, 0),
        treasury=_moved(debit__code=code, reason=Reason.REST),
    )


def lines_of_epoch(epoch: Epoch) -> QuerySet[Line]:
    """Who earned what in it, in the order of the sums. A hidden stream is its id, and so is one
    whose subject is among ``secret_among``."""
    return (
        Line.objects.filter(epoch=epoch)
        .select_related("stream", "parameters")
        .order_by("-amount_base_units", "address", "stream", "share", "parameters")
    )


def secret_among(lines: Sequence[Line]) -> set[str]:
    """Subjects of these lines that were public when they earned, and are private now."""
    return sources.receipts().secret({each.stream.subject for each in lines})


def _moved(**where: Any) -> int:
    moved = Transfer.objects.filter(**where).aggregate(moved=Sum("amount_base_units"))["moved"]
    return int(moved or 0)


def _transactions(numbers: list[int]) -> dict[int, str]:
    """What the chain has said counts, else what was sent last."""
    events = Event.objects.filter(
        kind=Event.Kind.ROOT_PROPOSED, epoch_number__in=numbers
    ).values_list("epoch_number", "transaction_hash", "root")
    said = {int(number): str(digest) for number, digest, _ in events if number is not None}
    waiting = Q()
    for number in numbers:
        if number not in said:
            waiting |= Q(key__startswith=f"root:{number}:")
    sent = Transaction.objects.filter(waiting).order_by("created_at") if waiting else ()
    for each in sent:
        said[int(each.key.split(":")[1])] = each.mined_hash or (each.hashes or [""])[-1]
    return said


def _hex(value: Any) -> str:
    return "" if value is None else "0x" + bytes(value).hex()
