"""How many calls a caller may make: buckets in Redis, exact across processes and coroutines.

A bucket of ``limit`` a window fills again evenly. It is kept as the moment at which it will be
full, so that one number says all. A call takes one from each of its buckets, or from none.

Where Redis does not answer, each process counts with buckets of its own, of the same limits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from functools import lru_cache
from typing import Final, NamedTuple

import structlog

from marketplace.gateway.redislink import Link, Refused, Script, bulk

WINDOW_SECONDS: Final = 60
# Redis is given so long before a call is counted here; and is left alone so long after that.
ANSWER_SECONDS: Final = 0.5
REST_SECONDS: Final = 1.0
# Calls of one script: Redis does nothing else while it runs.
_SCRIPT_CALLS: Final = 64
_REMEMBERED_MAX: Final = 65_536
_PREFIX: Final = b"inframind:calls:"
_PREFIX_BYTES: Final = len(_PREFIX)

log = structlog.get_logger(__name__)

# KEYS: the buckets of the calls, one call after the other. ARGV: window in microseconds, then for
# each call how many buckets it has and their limits. Returns for each call whether it was denied
# (0, 1), then of each bucket what is left and the microseconds until another call is possible.
_TAKE: Final = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window = tonumber(ARGV[1])
local kept, changed, answer = {}, {}, {}
local key, argument = 0, 2
while ARGV[argument] do
  local count = tonumber(ARGV[argument])
  local denied = 0
  for i = 1, count do
    local name, limit = KEYS[key + i], tonumber(ARGV[argument + i])
    local step = math.max(1, math.floor(window / limit))
    local full = kept[name] or tonumber(redis.call('GET', name)) or now
    full = math.min(math.max(full, now), now + limit * step)
    kept[name] = full
    if full + step > now + limit * step then denied = 1 end
  end
  answer[#answer + 1] = denied
  for i = 1, count do
    local name, limit = KEYS[key + i], tonumber(ARGV[argument + i])
    local step = math.max(1, math.floor(window / limit))
    if denied == 0 then
      kept[name] = kept[name] + step
      changed[name] = true
    end
    local room = now + limit * step - kept[name]
    answer[#answer + 1] = string.format('%.0f', math.floor(room / step))
    answer[#answer + 1] = string.format('%.0f', math.max(0, step - room))
  end
  key, argument = key + count, argument + count + 1
end
for name in pairs(changed) do
  local full = kept[name]
  local expires = string.format('%.0f', math.ceil((full - now) / 1000) + 1)
  redis.call('SET', name, string.format('%.0f', full), 'PX', expires)
end
return table.concat(answer, ' ')
""")


class Rules:
    """The policies that hold for a call, in one order, with their limits: calls a window, from 1.

    Made once (``rules``): what every call of the same kind needs is worked out here.
    """

    __slots__ = (
        "arguments",
        "limits",
        "policies",
        "policy_header",
        "steps_us",
        "template",
        "whole",
    )

    def __init__(
        self, policies: tuple[str, ...], limits: tuple[int, ...], window_seconds: int
    ) -> None:
        self.policies: Final = policies
        self.limits: Final = limits
        self.steps_us: Final = tuple(
            max(1, window_seconds * 1_000_000 // each_limit) for each_limit in limits
        )
        # The most that each bucket takes to fill, in microseconds.
        self.whole: Final = tuple(
            each_limit * step for each_limit, step in zip(limits, self.steps_us, strict=True)
        )
        self.arguments: Final = b"".join(bulk(b"%d" % each) for each in (len(limits), *limits))
        self.template: Final = ", ".join(f'"{each}";r=%d;t=0' for each in policies)
        self.policy_header: Final = ", ".join(
            f'"{policy}";q={each_limit};w={window_seconds}'
            for policy, each_limit in zip(policies, limits, strict=True)
        )


@lru_cache(maxsize=256)
def rules(
    policies: tuple[str, ...], limits: tuple[int, ...], window_seconds: int = WINDOW_SECONDS
) -> Rules:
    """The rules of these policies. Raises ``ValueError`` for a limit below 1."""
    if not policies or len(policies) != len(limits) or min(limits) < 1:
        raise ValueError("Each policy has a limit of at least 1.")
    return Rules(policies, limits, window_seconds)


class Allowance(NamedTuple):
    """What is left in a call's buckets after it was taken, or denied by one of them.

    ``remaining``: calls left in each bucket, None where nobody asked. ``waits_us``: microseconds
    until each has another one; 0 where it has.
    """

    rules: Rules
    allowed: bool
    remaining: tuple[int | None, ...]
    waits_us: tuple[int, ...]

    @property
    def emptiest(self) -> int:
        """Which of the policies takes longest to have another one."""
        return max(range(len(self.waits_us)), key=self.waits_us.__getitem__)

    @property
    def retry_after_seconds(self) -> int:
        return max(1, -(-max(self.waits_us) // 1_000_000))

    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers)."""
        if any(self.waits_us):
            left = ", ".join(
                f'"{policy}";r={remaining};t={-(-wait_us // 1_000_000)}'
                for policy, remaining, wait_us in zip(
                    self.rules.policies, self.remaining, self.waits_us, strict=True
                )
                if remaining is not None
            )
        else:
            left = self.rules.template % self.remaining
        return {"RateLimit": left, "RateLimit-Policy": self.rules.policy_header}


class _Asked(NamedTuple):
    """One call that waits to be counted."""

    rules: Rules
    subjects: tuple[str, ...]
    answer: asyncio.Future[Allowance]


class _Flight:
    """Calls of one script, on their way since ``time.monotonic()`` was ``since``."""

    __slots__ = ("calls", "since")

    def __init__(self, calls: list[_Asked], since: float) -> None:
        self.calls = calls
        self.since = since


class OwnBuckets:
    """Buckets of this process alone, for when Redis does not answer; of the same rule."""

    def __init__(self) -> None:
        self._full_at_us: OrderedDict[str, int] = OrderedDict()

    def take(self, of: Rules, subjects: tuple[str, ...]) -> Allowance:
        """Takes one from the bucket of each subject, or from none."""
        now = time.monotonic_ns() // 1000
        fulls = [max(now, self._full_at_us.get(subject, now)) for subject in subjects]
        rooms = [now + whole - full for whole, full in zip(of.whole, fulls, strict=True)]
        allowed = all(room >= step for room, step in zip(rooms, of.steps_us, strict=True))
        if allowed:
            for index, (subject, step) in enumerate(zip(subjects, of.steps_us, strict=True)):
                rooms[index] -= step
                self._full_at_us[subject] = fulls[index] + step
                self._full_at_us.move_to_end(subject)
            while len(self._full_at_us) > _REMEMBERED_MAX:
                self._full_at_us.popitem(last=False)
        by_bucket = list(zip(rooms, of.steps_us, strict=True))
        return Allowance(
            of,
            allowed,
            tuple(room // step for room, step in by_bucket),
            tuple(max(0, step - room) for room, step in by_bucket),
        )


class Limiter:
    """Counts the calls of one event loop: at most one write a tick, and one under way at a time.

    Not thread-safe."""

    def __init__(self, url: str, *, window_seconds: int = WINDOW_SECONDS) -> None:
        self._url = url
        self._window = bulk(b"%d" % (window_seconds * 1_000_000))
        self._own = OwnBuckets()
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._down_until: float | None = None
        self._gathered: list[_Asked] = []
        self._flights: dict[_Flight, None] = {}
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._empty_until: OrderedDict[str, float] = OrderedDict()

    def refused(self, of: Rules, subjects: tuple[str, ...]) -> Allowance | None:
        """A denial that is known without asking: one of the buckets is empty until later."""
        if not self._empty_until:
            return None
        now = time.monotonic()
        waits = tuple(
            max(0, math.ceil((self._empty_until.get(subject, now) - now) * 1_000_000))
            for subject in subjects
        )
        if not any(waits):
            return None
        return Allowance(of, False, tuple(0 if wait else None for wait in waits), waits)

    def take(self, of: Rules, subjects: tuple[str, ...]) -> asyncio.Future[Allowance]:
        """Takes one call from the bucket of each subject (``wallet:0x…``), in the order of the
        rules, or none from any. Never fails.

        The answer comes within half a second, whatever becomes of Redis.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Allowance] = loop.create_future()
        if self._down_until is not None:
            answer.set_result(self._own.take(of, subjects))
            if time.monotonic() >= self._down_until:
                self._open()
            return answer
        self._gathered.append(_Asked(of, subjects, answer))
        if not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush)
        return answer

    async def aclose(self) -> None:
        """Ends the connection; who still waits is counted here."""
        if self._timer is not None:
            self._timer.cancel()
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._count_here()

    def _flush(self) -> None:
        self._flush_due = False
        if not self._gathered:
            return
        now = time.monotonic()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(ANSWER_SECONDS, self._look_after)
        if self._link is None:
            self._open()
            return
        if self._flights:
            # What gathers until the answer is there goes in one write then: a write costs more
            # than what is written.
            return
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), _SCRIPT_CALLS):
            self._launch(_Flight(gathered[start : start + _SCRIPT_CALLS], now))

    def _launch(self, flight: _Flight) -> None:
        assert self._link is not None
        keys: list[bytes] = []
        arguments = [self._window]
        for of, subjects, _ in flight.calls:
            for subject in subjects:
                octets = subject.encode()
                keys.append(b"$%d\r\n%b%b\r\n" % (_PREFIX_BYTES + len(octets), _PREFIX, octets))
            arguments.append(of.arguments)
        self._flights[flight] = None
        rest = b"".join((bulk(b"%d" % len(keys)), *keys, *arguments))
        # The number of keys, the keys, the window; of each call a count, and a limit for each key.
        pieces = 2 + 2 * len(keys) + len(flight.calls)
        self._link.run(rest, pieces, lambda answer: self._landed(flight, answer))

    def _landed(self, flight: _Flight, answer: bytes | Refused) -> None:
        if flight not in self._flights:
            return
        if isinstance(answer, Refused):
            self._down(str(answer))
            return
        del self._flights[flight]
        numbers = tuple(map(int, answer.split()))
        at = 0
        for of, subjects, asked in flight.calls:
            after = at + 1 + 2 * len(subjects)
            waits = numbers[at + 2 : after : 2]
            if any(waits):
                self._note_empty(subjects, waits)
            if not asked.done():
                remaining = numbers[at + 1 : after : 2]
                asked.set_result(Allowance(of, not numbers[at], remaining, waits))
            at = after
        if self._gathered and not self._flush_due:
            self._flush()

    def _note_empty(self, subjects: tuple[str, ...], waits_us: tuple[int, ...]) -> None:
        now = time.monotonic()
        empty = self._empty_until
        for subject, wait_us in zip(subjects, waits_us, strict=True):
            if wait_us:
                empty[subject] = now + wait_us / 1_000_000
                empty.move_to_end(subject)
        while empty and (len(empty) > _REMEMBERED_MAX or next(iter(empty.values())) <= now):
            empty.popitem(last=False)

    def _look_after(self) -> None:
        """Nobody waits longer than ``ANSWER_SECONDS``: one timer for all."""
        self._timer = None
        now = time.monotonic()
        oldest = min((flight.since for flight in self._flights), default=now)
        unsent = bool(self._gathered) and self._link is None
        if unsent or now - oldest >= ANSWER_SECONDS:
            self._down("Redis does not answer.")
        elif self._flights:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(ANSWER_SECONDS - (now - oldest), self._look_after)

    def _down(self, reason: str) -> None:
        if self._down_until is None:
            log.warning("calls are counted by this process alone", reason=reason)
        self._down_until = time.monotonic() + REST_SECONDS
        link, self._link = self._link, None
        if link is not None:
            link.close()
        self._count_here()

    def _count_here(self) -> None:
        waiting = [asked for flight in self._flights for asked in flight.calls]
        waiting += self._gathered
        self._flights.clear()
        self._gathered.clear()
        for asked in waiting:
            if not asked.answer.done():
                asked.answer.set_result(self._own.take(asked.rules, asked.subjects))

    def _open(self) -> None:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                link = await Link.open(self._url, _TAKE, self._down)
        except (OSError, Refused, ValueError) as error:
            self._opening = None
            self._down(f"{type(error).__name__}: {error}")
            return
        self._opening = None
        self._link = link
        if self._down_until is not None:
            self._down_until = None
            log.info("calls are counted in Redis again")
        self._flush()
