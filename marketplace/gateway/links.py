"""Whether a caller is one with those who are paid for the call: such calls count for no ranking."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from billing.payouts.queries import delegations_on
from inframind.lib.addresses import checksum_address
from marketplace.mesh.asyncdb import connection

# Delegations are known some blocks after they were made; a few seconds more change nothing.
FRESH_SECONDS: Final = 10.0
_KEPT: Final = 20_000


@dataclass
class Links:
    """What one event loop knows about who votes with whom."""

    _known: dict[str, tuple[float, str | None]] = field(default_factory=dict)

    async def linked(self, caller: str, paid: Collection[str]) -> bool:
        """Whether the caller is one of those who are paid, or one of the two votes by the other.

        Raises ``psycopg.OperationalError``.
        """
        mine = normal(caller)
        others = {normal(address) for address in paid if address}
        if mine in others:
            return True
        await self._look({mine, *others})
        delegate = self._known[mine][1]
        return delegate in others or any(self._known[each][1] == mine for each in others)

    async def _look(self, addresses: set[str]) -> None:
        now = time.monotonic()
        stale = [each for each in addresses if self._known.get(each, (0.0, None))[0] <= now]
        if not stale:
            return
        async with connection() as database:
            found = await delegations_on(database, stale)
        if len(self._known) >= _KEPT:
            self._known = {each: self._known[each] for each in addresses if each in self._known}
        for each in stale:
            self._known[each] = (now + FRESH_SECONDS, found.get(each))


@lru_cache(maxsize=4096)
def normal(address: str) -> str:
    """The checksummed form of an address that the database holds in whatever case."""
    return checksum_address(address.lower())
