"""How soon calls are quick again after a node was killed."""

from __future__ import annotations

from benchmarks.failover import AFTER_SECONDS, WINDOW_SECONDS, Sample, back_at


def calls(slow_from: float, slow_to: float, *, until: float = 20.0) -> list[Sample]:
    """A call every hundredth of a second, slow within the times."""
    every = [number / 100 for number in range(int(until * 100))]
    return [Sample(at, 0.9 if slow_from <= at < slow_to else 0.01, "") for at in every]


def test_the_last_slow_window_says_when_all_was_well_again() -> None:
    assert back_at(calls(0, 0), killed_at=5, limit_seconds=0.02) == 0
    assert back_at(calls(5, 5.6), killed_at=5, limit_seconds=0.02) == 0.75
    assert back_at(calls(6, 6.01), killed_at=5, limit_seconds=0.02) == 1.25


def test_a_window_without_a_call_is_not_well() -> None:
    silent = calls(0, 0, until=6)
    assert back_at(silent, killed_at=5, limit_seconds=0.02) == AFTER_SECONDS // WINDOW_SECONDS * (
        WINDOW_SECONDS
    )
