"""Copies of versions on nodes as one event loop knows them, and as ``explain`` shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from marketplace.mesh.load import Load, Tail
from marketplace.mesh.routes import Route

# Under this, latencies of nodes count as the same.
_FLOOR_SECONDS: Final = 0.001
# After so long without a call what is known of a node's latency counts half.
_HALF_SECONDS: Final = 10.0


@dataclass(eq=False, slots=True)
class Copy:
    """A version on a node. ``seconds``: what its calls take lately; 0 as long as nothing is known.

    Whoever was given one holds a place on the node until ``Router.served`` or ``Router.gave_up``.
    """

    route: Route
    load: Load
    scale: float  # capacity times weight
    tail: Tail  # of the version, wherever it runs
    seconds: float = 0.0
    served_at: float = 0.0
    shunned_until: float = 0.0  # without end where the probes do not reach the node
    spoils: int = 0  # in a row

    def score(self, now: float) -> float:
        """The lower, the sooner a call that is given to it now should be answered."""
        known = self.seconds * _HALF_SECONDS / (_HALF_SECONDS + now - self.served_at)
        return (known + _FLOOR_SECONDS) * (self.load.in_flight + 1) / self.scale


@dataclass(eq=False, slots=True)
class KnownVersion:
    """What is known of one version's copies. ``read_at`` 0: it has to be read anew."""

    read_at: float = 0.0
    model: str = ""
    copies: tuple[Copy, ...] = ()
    paid: tuple[Copy, ...] = ()  # those of nodes that are given paid calls
    loading: bool = False
    reason: str = ""
    waiting: int = 0
    at_fault_until: float = 0.0
    tail: Tail = field(default_factory=Tail)

    def of(self, *, paid: bool) -> tuple[Copy, ...]:
        """The copies that such a call may go to."""
        return self.paid if paid else self.copies


@dataclass(frozen=True)
class Candidate:
    """A copy as ``explain`` shows it. ``why_not`` is empty where it may be chosen now."""

    route: Route
    state: str
    score: float
    seconds: float
    in_flight: int
    limit: int
    ejected_seconds: float  # from now; 0: it is well
    errors: float
    why_not: str


@dataclass(frozen=True)
class View:
    """What the router knows of a version, and what it would do with a call."""

    candidates: tuple[Candidate, ...]
    loading: bool
    reason: str
    age_seconds: float
    waiting: int
    waiting_max: int
    hedged_after_seconds: float | None  # None: not enough calls to know what is late
    samples: int
    retries_left: int


def candidate_of(copy: Copy, *, paid: bool, now: float) -> Candidate:
    """The copy as it stands now."""
    load, route = copy.load, copy.route
    left = max(0.0, load.ejected_until - now)
    if paid and not route.paid_calls:
        state, why = "no-paid-calls", "Its success rate is too low for paid calls."
    elif route.doubtful:
        state, why = "doubtful", "It missed the last probes: only where no other is left."
    elif copy.shunned_until > now:
        left = copy.shunned_until - now
        state, why = "ejected", "Its answers broke the contract, another node's did not."
    elif left:
        state, why = "ejected", load.reason
    elif load.in_flight >= load.limit:
        state, why = "full", "It has as many calls as it may."
    else:
        state, why = ("on-trial" if load.ejected_until else "well"), ""
    return Candidate(
        route,
        state,
        copy.score(now),
        copy.seconds,
        load.in_flight,
        load.limit,
        left,
        load.errors,
        why,
    )


def despair(copy: Copy, now: float) -> tuple[bool, float, float]:
    """Of nodes that nobody would choose, the lowest is the best."""
    return copy.route.doubtful, copy.load.ejected_until, copy.score(now)
