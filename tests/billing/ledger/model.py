"""The ledger once more, in plain Python: what the real one is compared with, step by step.

It keeps no sums but for transfers: everything else is added up from what is there each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from billing.ledger.services import HoldRequest, Posting, Settling


class Refusal(Exception):
    """What the real one has to refuse; ``accounts``: one of these is named, with what it has."""

    def __init__(self, code: str, accounts: dict[str, int] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.accounts = accounts or {}


@dataclass
class Held:
    request: HoldRequest
    remaining: int
    due: bool = False


@dataclass
class Lent:
    wallet: str
    amount: int
    spent: int = 0
    dead: bool = False


@dataclass
class Books:
    posted: Counter[str] = field(default_factory=Counter)
    transfers: dict[UUID, Posting] = field(default_factory=dict)
    holds: dict[UUID, Held] = field(default_factory=dict)
    settled_from: dict[UUID, UUID] = field(default_factory=dict)  # transfer: its hold
    leases: dict[UUID, Lent] = field(default_factory=dict)
    spent_by_ended: Counter[str] = field(default_factory=Counter)
    posted_by_epochs: Counter[str] = field(default_factory=Counter)
    day_limit: dict[str, int | None] = field(default_factory=dict)
    day_used: Counter[str] = field(default_factory=Counter)

    # --- sums -------------------------------------------------------------------------------

    def held(self, code: str) -> int:
        return sum(each.remaining for each in self.holds.values() if each.request.debit == code)

    def leased(self, code: str) -> int:
        return sum(each.amount for each in self.leases.values() if each.wallet == code)

    def spent(self, code: str) -> int:
        return sum(each.spent for each in self.leases.values() if each.wallet == code)

    def charged(self, code: str) -> int:
        return self.spent_by_ended[code] - self.posted_by_epochs[code]

    def unposted(self, code: str) -> int:
        return self.charged(code) + self.spent(code)

    def available(self, code: str) -> int:
        return self.posted[code] - self.held(code) - self.leased(code) - self.charged(code)

    def balance(self, code: str) -> int:
        return self.posted[code] - self.unposted(code)

    def dead(self, code: str) -> int:
        """What expired leases would give back."""
        return sum(
            each.amount - each.spent
            for each in self.leases.values()
            if each.wallet == code and each.dead
        )

    # --- transfers --------------------------------------------------------------------------

    def post(self, batch: Sequence[Posting], *, charged: bool = False) -> int:
        once: dict[UUID, Posting] = {}
        for each in batch:
            if once.setdefault(each.id, each) != each:
                raise Refusal("transfer-differs")
        new = [each for each in once.values() if each.id not in self.transfers]
        moved: Counter[str] = Counter()
        for each in new:
            moved[each.debit] -= 0 if charged else each.amount_base_units
            moved[each.credit] += each.amount_base_units
        self._above_floors(moved)
        if any(self.transfers.get(each.id, each) != each for each in once.values()):
            raise Refusal("transfer-differs")
        for each in once.values():
            self.posted.update({each.debit: 0, each.credit: 0})
        for each in new:
            self._move(each)
            if charged:
                self.posted_by_epochs[each.debit] += each.amount_base_units
        return len(new)

    def _move(self, posting: Posting) -> None:
        self.transfers[posting.id] = posting
        self.posted[posting.debit] -= posting.amount_base_units
        self.posted[posting.credit] += posting.amount_base_units

    def _above_floors(self, moved: Counter[str]) -> None:
        short = {
            code: self.available(code)
            for code, amount in moved.items()
            if code != "chain" and self.available(code) + amount < 0
        }
        if short:
            raise Refusal("insufficient-funds", short)

    # --- holds ------------------------------------------------------------------------------

    def hold(self, batch: Sequence[HoldRequest]) -> int:
        once: dict[UUID, HoldRequest] = {}
        for each in batch:
            if once.setdefault(each.id, each) != each:
                raise Refusal("hold-differs")
        new = [each for each in once.values() if each.id not in self.holds]
        moved: Counter[str] = Counter()
        for each in new:
            moved[each.debit] -= each.amount_base_units
        self._above_floors(moved)
        for each in once.values():
            if each.id in self.holds and self.holds[each.id].request != each:
                raise Refusal("hold-differs")
        for each in once.values():
            self.posted.update({each.debit: 0, each.credit: 0})
        for each in new:
            self.holds[each.id] = Held(each, each.amount_base_units)
        return len(new)

    def settle(self, batch: Sequence[Settling]) -> int:
        left = {pk: held.remaining for pk, held in self.holds.items()}
        moves: dict[UUID, tuple[UUID, int]] = {}
        for each in batch:
            if each.hold_id not in left:
                raise Refusal("not-found")
        for each in batch:
            hold, transfer, asked = each.hold_id, each.transfer_id, each.amount_base_units
            if transfer in self.transfers or transfer in moves:
                done = moves.get(transfer) or (
                    self.settled_from.get(transfer),
                    self.transfers[transfer].amount_base_units,
                )
                if (
                    done[0] != hold
                    or asked not in (None, done[1])
                    or (each.release_rest and left[hold] > 0)
                ):
                    raise Refusal("transfer-differs")
                continue
            amount = left[hold] if asked is None else asked
            if amount == 0 or amount > left[hold]:
                raise Refusal("hold-ended")
            moves[transfer] = (hold, amount)
            left[hold] = 0 if each.release_rest else left[hold] - amount
        for transfer, (hold, amount) in moves.items():
            held = self.holds[hold].request
            self.settled_from[transfer] = hold
            self._move(
                Posting(transfer, held.debit, held.credit, amount, held.reason, held.subject)
            )
        for pk, remaining in left.items():
            self.holds[pk].remaining = remaining
        return len(moves)

    def give_back(self, ids: Sequence[UUID]) -> int:
        if not set(ids) <= self.holds.keys():
            raise Refusal("not-found")
        open_ones = {pk for pk in ids if self.holds[pk].remaining}
        for pk in open_ones:
            self.holds[pk].remaining = 0
        return len(open_ones)

    def expire_due(self) -> int:
        return self.give_back([pk for pk, held in self.holds.items() if held.due])

    # --- leases -----------------------------------------------------------------------------

    def take(self, wallet: str, fee: int, calls: int, waiting: int) -> int:
        """The amount of the lease; whoever asks adds it under its id."""
        self.end([pk for pk, each in self.leases.items() if each.wallet == wallet and each.dead])
        available = self.available(wallet)
        room, limit = available, self.day_limit.get(wallet)
        if limit is not None:
            room = min(room, limit - self.day_used[wallet])
        if room < fee:
            raise Refusal("day-limit-reached" if available >= fee else "insufficient-funds")
        amount = calls * fee if room >= 4 * calls * fee else min(waiting, room // fee) * fee
        self.day_used[wallet] += amount
        return amount

    def charge(self, charges: Sequence[tuple[UUID, int]]) -> set[UUID]:
        sums: Counter[UUID] = Counter()
        for lease, amount in charges:
            sums[lease] += amount
        took = {
            pk
            for pk, amount in sums.items()
            if pk in self.leases
            and not self.leases[pk].dead
            and self.leases[pk].spent + amount <= self.leases[pk].amount
        }
        for pk in took:
            self.leases[pk].spent += sums[pk]
        return took

    def end(self, ids: Sequence[UUID]) -> None:
        for pk in set(ids) & self.leases.keys():
            ended = self.leases.pop(pk)
            self.spent_by_ended[ended.wallet] += ended.spent
            self.day_used[ended.wallet] -= ended.amount - ended.spent

    def sweep(self) -> int:
        dead = [pk for pk, each in self.leases.items() if each.dead]
        self.end(dead)
        return len(dead)
