"""What a wallet has earned: claimed, ready to be claimed, and still on its way to the chain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from billing.epochs import queries as epochs
from billing.epochs.models import Epoch
from billing.epochs.queries import Reward
from billing.payouts.claims import claimable_epoch
from billing.payouts.queries import claims_of


@dataclass(frozen=True)
class Owed:
    """A stream of a payee. Amounts in base units; ``claimed`` is what the chain has confirmed."""

    reward: Reward
    claimed: int
    claimable: int

    @property
    def pending(self) -> int:
        return self.reward.pending_base_units

    @property
    def earned(self) -> int:
        return self.reward.cumulative_base_units + self.pending


@dataclass(frozen=True)
class Earnings:
    """All streams of a payee, against the root that the contract pays by.

    ``epoch``: the one of that root; None while there is none, and then everything is pending.
    """

    epoch: Epoch | None
    streams: tuple[Owed, ...]

    @property
    def claimed(self) -> int:
        return sum(each.claimed for each in self.streams)

    @property
    def claimable(self) -> int:
        return sum(each.claimable for each in self.streams)

    @property
    def pending(self) -> int:
        return sum(each.pending for each in self.streams)

    @property
    def by_epoch(self) -> list[tuple[int, int]]:
        """What each epoch brought, from the first that brought anything to the newest, none left
        out between."""
        sums: dict[int, int] = {}
        for owed in self.streams:
            for each in owed.reward.earnings:
                sums[each.epoch] = sums.get(each.epoch, 0) + each.amount_base_units
        if not sums:
            return []
        return [(number, sums.get(number, 0)) for number in range(min(sums), max(sums) + 1)]


def earnings_of(address: str, *, streams: Iterable[bytes] | None = None) -> Earnings:
    """What a wallet has earned by each stream, or by those ``streams`` alone."""
    number = claimable_epoch()
    epoch = None if number is None else Epoch.objects.get(number=number)
    claims = claims_of(address)
    rewards = epochs.rewards_of(address, epoch=number, streams=streams)
    owed = []
    for reward in rewards:
        claimed = claims.get(reward.stream_hex, 0)
        # A claim that is ahead of our books' newest claimable root leaves nothing, not less.
        claimable = max(reward.cumulative_base_units - claimed, 0) if reward.proven else 0
        owed.append(Owed(reward, claimed, claimable))
    return Earnings(epoch, tuple(owed))
