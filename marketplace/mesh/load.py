"""How one event loop sees a node: what it is busy with, how fast it answers, whether it is well.

Times are seconds of one monotonic clock, handed in: nothing here looks at a clock.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

EJECTED_SECONDS: Final = 1.0
EJECTED_MAX_SECONDS: Final = 20.0
# An ejection is forgotten, and the next one short again, after so long without another.
FORGOTTEN_SECONDS: Final = 60.0
# One call has so long to show that an ejected node is well again, before another may try.
TRIAL_SECONDS: Final = 2.0

# What a failure counts: at 1 in a row, the node is ejected.
REFUSED: Final = 1.0  # nobody listens
LOST: Final = 0.5  # a connection broke under a call: one that was kept open can have died long ago
SPOILED: Final = 0.34  # an answer that nobody can read

_ERROR_SHARE_MAX: Final = 0.4
_ERROR_WINDOW: Final = 20  # calls, about

# Calls that a node would finish within this wait at the node, others here.
PILE_SECONDS: Final = 0.25
_FACTOR_MAX: Final = 32.0
_FACTOR_UNMEASURED: Final = 4.0
_LATEST: Final = 0.1  # weight of the latest call in the node's latency

# Durations before a percentile means anything.
SAMPLES_MIN: Final = 20


@dataclass(slots=True, eq=False)
class Load:
    """A node's load and health. ``limit`` calls may be there at once.

    The limit is the node's capacity times how many rounds of calls it finishes in
    ``PILE_SECONDS``, from 1 to 32: latency rises with what piles up, so that it settles.
    """

    capacity: int
    in_flight: int = 0
    limit: int = 0
    seconds: float = 0.0  # what a call takes there lately; 0: not known yet
    answered_at: float = -1.0
    ejected_until: float = 0.0  # 0: it is well
    ejections: int = 0
    reason: str = ""
    strikes: float = 0.0
    errors: float = 0.0  # share of the latest calls
    waiting: deque[asyncio.Future[Load]] = field(default_factory=deque)
    _trial_until: float = 0.0
    _ejected_last: float = 0.0

    def __post_init__(self) -> None:
        self.resize(self.capacity)

    def resize(self, capacity: int) -> None:
        """Takes over another capacity."""
        self.capacity = max(1, capacity)
        self._measure()

    def opens(self, now: float) -> bool:
        """Whether an ejected node may be given one call to show that it is well again."""
        return self.ejected_until <= now and self._trial_until <= now

    def try_out(self, now: float) -> None:
        """The call that is now given to an ejected node decides about it."""
        self._trial_until = now + TRIAL_SECONDS

    def answered(self, seconds: float, now: float) -> None:
        """It answered a call in so long."""
        self.answered_at = now
        known = self.seconds
        self.seconds = known + _LATEST * (seconds - known) if known else seconds
        factor = PILE_SECONDS / self.seconds if self.seconds > 0 else _FACTOR_MAX
        if factor > 1:
            self.limit = int(self.capacity * (factor if factor < _FACTOR_MAX else _FACTOR_MAX))
        else:
            self.limit = self.capacity
        if self.errors:
            self.errors = self.errors * (1 - 1 / _ERROR_WINDOW) if self.errors > 0.01 else 0.0
        if self.strikes or self.ejected_until:
            self.strikes = 0.0
            self.ejected_until = self._trial_until = 0.0
            self.reason = ""

    def struck(self, weight: float, reason: str, now: float) -> bool:
        """It failed a call; returns whether it is ejected for that."""
        if self.ejected_until > now:
            # One death seen by many calls at once is one failure.
            return True
        self.strikes += weight
        self.errors += (1 - self.errors) / _ERROR_WINDOW
        if self.strikes < 1 and self.errors < _ERROR_SHARE_MAX and not self.ejected_until:
            return False
        self.eject(reason, now)
        return True

    def eject(self, reason: str, now: float) -> None:
        """Leaves it alone for a while, twice as long as the last time if that was lately."""
        if now - self._ejected_last > FORGOTTEN_SECONDS:
            self.ejections = 0
        seconds = min(EJECTED_MAX_SECONDS, EJECTED_SECONDS * 2.0 ** min(self.ejections, 10))
        self.ejections += 1
        self._ejected_last = self.ejected_until = now + seconds
        self._trial_until = 0.0
        self.strikes = self.errors = 0.0
        self.reason = reason

    def revive(self) -> None:
        """It was started anew: what it did before says nothing any more."""
        self.ejected_until = self._trial_until = self.strikes = self.errors = self.seconds = 0.0
        self.ejections = 0
        self.reason = ""
        self._measure()

    def _measure(self) -> None:
        factor = PILE_SECONDS / self.seconds if self.seconds else _FACTOR_UNMEASURED
        self.limit = int(self.capacity * min(_FACTOR_MAX, max(1.0, factor)))


@dataclass(slots=True)
class RetryBudget:
    """How many calls may be sent to a node a second time: a share of those of the last seconds.

    Without it a mesh that is too slow is sent every call twice, and becomes slower.
    """

    share: float = 0.2
    at_least: int = 16
    seconds: float = 10.0
    _slots: deque[tuple[float, int, int]] = field(default_factory=deque)
    _began: float = 0.0
    _calls: int = 0
    _retries: int = 0
    _calls_before: int = 0  # in the closed slots
    _retries_before: int = 0

    def note_call(self, now: float) -> None:
        """A call is made."""
        if now - self._began >= 1.0:
            self._turn(now)
        self._calls += 1

    def take(self, now: float) -> bool:
        """Whether a call may be sent once more; if so, that is noted."""
        if self.left(now) < 1:
            return False
        self._retries += 1
        return True

    def left(self, now: float) -> int:
        """How many more there may be just now."""
        if now - self._began >= 1.0:
            self._turn(now)
        calls = self._calls_before + self._calls
        return max(self.at_least, int(calls * self.share)) - self._retries_before - self._retries

    def _turn(self, now: float) -> None:
        self._slots.append((self._began, self._calls, self._retries))
        self._calls_before += self._calls
        self._retries_before += self._retries
        self._began, self._calls, self._retries = now, 0, 0
        while self._slots and self._slots[0][0] <= now - self.seconds:
            _, calls, retries = self._slots.popleft()
            self._calls_before -= calls
            self._retries_before -= retries


@dataclass(slots=True)
class Tail:
    """The 95th percentile of a stream of durations, followed at constant cost."""

    mean: float = 0.0
    p95: float = 0.0
    count: int = 0

    @property
    def late_seconds(self) -> float | None:
        """From when on a call is late; None before there were enough to say."""
        return self.p95 if self.count >= SAMPLES_MIN else None

    def note(self, seconds: float) -> None:
        """One more duration."""
        self.count += 1
        if self.count == 1:
            self.mean = self.p95 = seconds
            return
        self.mean += 0.1 * (seconds - self.mean)
        # Up by 19 steps for each that is above, down by one for each below: in balance at 95 %.
        step = (0.01 if self.count < 200 else 0.002) * self.mean
        self.p95 += 19 * step if seconds > self.p95 else -step
