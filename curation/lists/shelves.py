"""The rules of the five shelves: pure functions from figures to a recountable order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

MIN_CALLS = 20  # below this a rate says nothing
MIN_SUCCESS = Fraction(85, 100)
MAX_MISMATCH = Fraction(5, 100)
EXPERIMENTAL = frozenset({"alpha", "experimental"})
SHELF_LENGTH = 100


@dataclass(frozen=True)
class Candidate:
    """What the rules are fed about one public, listed model. Windows are 30 days.

    Calls by the owner, the payee, the node's operator, or a wallet that votes with one of them are
    in none of the figures.
    """

    name: str
    activated_at: datetime
    stability: str
    badges: frozenset[str]  # those that have not expired
    dao_pinned_at: datetime | None
    calls: int  # counted calls: those whose outcome says something about the model
    served: int
    mismatched: int  # outputs that broke the schema
    p50_us: int | None

    @property
    def success(self) -> Fraction | None:
        return Fraction(self.served, self.calls) if self.calls >= MIN_CALLS else None

    @property
    def underperforms(self) -> bool:
        """Repeated failure or mismatch takes a model off every shelf, never off the registry."""
        if self.success is None:
            return False
        return self.success < MIN_SUCCESS or Fraction(self.mismatched, self.calls) > MAX_MISMATCH

    def figures(self) -> dict[str, int | str | None]:
        """The inputs of the ranking, as stored beside it."""
        return {
            "calls": self.calls,
            "served": self.served,
            "mismatched": self.mismatched,
            "p50_us": self.p50_us,
        }


@dataclass(frozen=True)
class Rule:
    slug: str
    title: str
    sentence: str  # the rule in one sentence, shown on the shelf
    empty: str  # what to say, and do, when nothing qualifies
    admits: Callable[[Candidate], bool]
    score: Callable[[Candidate], Fraction]  # higher is better


@dataclass(frozen=True)
class Placed:
    name: str
    score: str
    figures: dict[str, int | str | None]


def _top_score(candidate: Candidate) -> Fraction:
    return candidate.served * (candidate.success or Fraction(0))


RULES = (
    Rule(
        "top-performing",
        "Top performing",
        f"Ranked by calls served in 30 days × success rate, from {MIN_CALLS} calls on; "
        "ties go to the lower median latency. Calls by those who are paid for them never count.",
        f"No model has {MIN_CALLS} calls in the last 30 days yet. Call one and it starts to count.",
        lambda c: c.success is not None,
        _top_score,
    ),
    Rule(
        "dao-pinned",
        "DAO-pinned",
        "Pinned by InfraDAO: nodes keep these loaded ahead of calls; the newest pin first.",
        "InfraDAO has pinned no model yet.",
        lambda c: c.dao_pinned_at is not None,
        lambda c: Fraction(int(c.dao_pinned_at.timestamp())) if c.dao_pinned_at else Fraction(0),
    ),
    Rule(
        "privacy-ready",
        "Privacy-ready",
        "Declares an enclave or zkML runtime, and a check found a node that offers it; the most "
        "served to others first.",
        "No model has a privacy-ready badge: none declares an enclave or zkML runtime that a node "
        "offers today.",
        lambda c: "privacy-ready" in c.badges,
        lambda c: Fraction(c.served),
    ),
    Rule(
        "experimental",
        "Experimental",
        "Marked alpha or experimental by its publisher: may change or break; the newest first.",
        "No model is marked alpha or experimental.",
        lambda c: c.stability in EXPERIMENTAL,
        lambda c: Fraction(int(c.activated_at.timestamp())),
    ),
    Rule(
        "agent-compatible",
        "Agent-compatible",
        "A check found its output structured, so the next model can read it; the most served "
        "to others first.",
        "No model has an agent-compatible badge yet.",
        lambda c: "agent-compatible" in c.badges,
        lambda c: Fraction(c.served),
    ),
)
BY_SLUG = {rule.slug: rule for rule in RULES}


def rank(rule: Rule, candidates: Iterable[Candidate]) -> list[Placed]:
    """The shelf in order: score down, then median latency up, then name; the order is total."""
    admitted = [c for c in candidates if not c.underperforms and rule.admits(c)]
    unknown = max((c.p50_us or 0 for c in admitted), default=0) + 1
    ordered = sorted(
        admitted,
        key=lambda c: (-rule.score(c), c.p50_us if c.p50_us is not None else unknown, c.name),
    )
    return [Placed(c.name, _decimal(rule.score(c)), c.figures()) for c in ordered[:SHELF_LENGTH]]


def _decimal(score: Fraction) -> str:
    """Six places, rounded down by integer arithmetic: every machine prints the same."""
    micro = (score.numerator * 1_000_000) // score.denominator
    return f"{micro // 1_000_000}.{micro % 1_000_000:06d}".rstrip("0").rstrip(".")
