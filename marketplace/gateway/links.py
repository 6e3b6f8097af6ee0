"""Whether a caller is one with those who are paid for the call: such calls count for no ranking."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from billing.payouts.queries import delegations_on
from inframind.lib.addresses import checksum_address
from marketplace.mesh.asyncdb import connection

# Delegations are known some blocks after they were made; a few seconds more change nothing.
FRESH_SECONDS: Final = 10.0
_KEPT: Final = 20_000
_NOTHING: Final = (0.0, False)


@dataclass
class Links:
    """What one event loop knows about who votes with whom."""

    _known: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    # By the caller and those who are paid: until when it holds, and what.
    _answers: dict[tuple[str, ...], tuple[float, bool]] = field(default_factory=dict)

    def known(self, caller: str, *paid: str) -> bool | None:
        """What ``linked`` says, where that is known already; None where it is not."""
        until, answer = self._answers.get((caller, *paid), _NOTHING)
        return answer if until > time.monotonic() else None

    async def linked(self, caller: str, *paid: str) -> bool:
        """Whether the caller is one of those who are paid, or one of the two votes by the other.

        Raises ``psycopg.OperationalError``.
        """
        mine = normal(caller)
        others = {normal(address) for address in paid if address}
        if mine in others:
            return True
        found = await self._look({mine, *others})
        delegate = found[mine][1]
        answer = delegate in others or any(found[each][1] == mine for each in others)
        if len(self._answers) >= _KEPT:
            self._answers.clear()
        self._answers[(caller, *paid)] = min(until for until, _ in found.values()), answer
        return answer

    async def _look(self, addresses: set[str]) -> dict[str, tuple[float, str | None]]:
        """Until when what is known of each holds, and whom it votes by."""
        now = time.monotonic()
        known = {each: self._known.get(each, (0.0, None)) for each in addresses}
        stale = [each for each, (until, _) in known.items() if until <= now]
        if stale:
            async with connection() as database:
                found = await delegations_on(database, stale)
            known |= {each: (now + FRESH_SECONDS, found.get(each)) for each in stale}
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known |= known
        return known


@lru_cache(maxsize=4096)
def normal(address: str) -> str:
    """The checksummed form of an address that the database holds in whatever case."""
    return checksum_address(address.lower())
