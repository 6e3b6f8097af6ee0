"""The rules of the shelves."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from curation.lists.shelves import BY_SLUG, MIN_CALLS, RULES, Candidate, rank

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def candidate(name: str = "a", **changes: object) -> Candidate:
    given: dict[str, object] = {
        "name": name,
        "activated_at": EPOCH,
        "stability": "stable",
        "badges": frozenset(),
        "dao_pinned_at": None,
        "calls": 0,
        "served": 0,
        "mismatched": 0,
        "p50_us": None,
    }
    return Candidate(**{**given, **changes})  # type: ignore[arg-type]


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), unique=True, max_size=8))
    made = []
    for name in names:
        calls = draw(st.integers(0, 100))
        served = draw(st.integers(0, calls))
        made.append(
            candidate(
                name,
                calls=calls,
                served=served,
                mismatched=draw(st.integers(0, calls - served)),
                p50_us=draw(st.none() | st.integers(1, 10_000)) if served else None,
                badges=frozenset(
                    draw(st.sets(st.sampled_from(["privacy-ready", "agent-compatible"])))
                ),
                stability=draw(st.sampled_from(["stable", "beta", "alpha", "experimental"])),
                dao_pinned_at=draw(st.none() | st.just(EPOCH)),
            )
        )
    return made


@given(candidates(), st.sampled_from(RULES), st.integers())
def test_the_order_does_not_depend_on_the_order_of_the_rows(
    found: list[Candidate], rule: object, seed: int
) -> None:
    shuffled = list(found)
    Random(seed).shuffle(shuffled)
    assert rank(rule, shuffled) == rank(rule, found)  # type: ignore[arg-type]


@given(candidates(), st.sampled_from(RULES))
def test_no_shelf_shows_a_model_that_underperforms(found: list[Candidate], rule: object) -> None:
    failing = {c.name for c in found if c.underperforms}
    assert not failing & {p.name for p in rank(rule, found)}  # type: ignore[arg-type]


def test_top_performing_weighs_calls_by_their_success() -> None:
    rule = BY_SLUG["top-performing"]
    placed = rank(
        rule,
        [
            candidate("busy", calls=100, served=90, p50_us=10),
            candidate("sound", calls=85, served=85, p50_us=10),
            candidate("quiet", calls=MIN_CALLS - 1, served=MIN_CALLS - 1, p50_us=1),
        ],
    )
    assert [(p.name, p.score) for p in placed] == [("sound", "85"), ("busy", "81")]


def test_ties_go_to_the_lower_latency_then_to_the_name() -> None:
    placed = rank(
        BY_SLUG["top-performing"],
        [
            candidate("c", calls=20, served=20, p50_us=5),
            candidate("b", calls=20, served=20, p50_us=5),
            candidate("a", calls=20, served=20, p50_us=9),
        ],
    )
    assert [p.name for p in placed] == ["b", "c", "a"]


def test_few_calls_are_no_reason_to_call_a_model_bad() -> None:
    assert not candidate(calls=MIN_CALLS - 1, served=0).underperforms
    assert candidate(calls=MIN_CALLS, served=0).underperforms


def test_schema_mismatch_alone_takes_a_model_off() -> None:
    assert not candidate(calls=100, served=95, mismatched=5).underperforms
    assert candidate(calls=100, served=94, mismatched=6).underperforms


def test_each_shelf_admits_what_its_sentence_says() -> None:
    pinned = candidate("p", dao_pinned_at=EPOCH)
    private = candidate("e", badges=frozenset({"privacy-ready"}))
    alpha = candidate("x", stability="alpha")
    agent = candidate("g", badges=frozenset({"agent-compatible"}))
    busy = candidate("t", calls=20, served=20)
    everyone = [pinned, private, alpha, agent, busy]
    found = {rule.slug: [p.name for p in rank(rule, everyone)] for rule in RULES}
    assert found == {
        "top-performing": ["t"],
        "dao-pinned": ["p"],
        "privacy-ready": ["e"],
        "experimental": ["x"],
        "agent-compatible": ["g"],
    }


def test_a_score_is_exact_text() -> None:
    placed = rank(BY_SLUG["top-performing"], [candidate("a", calls=30, served=29)])
    assert placed[0].score == "28.033333"  # 29 x 29 / 30
