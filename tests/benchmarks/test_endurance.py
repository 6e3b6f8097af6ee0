"""The slope that says whether a process grows."""

from __future__ import annotations

import pytest

from benchmarks.endurance import slope


def test_a_steady_growth_is_found_and_one_outlier_does_not_move_it() -> None:
    steady = [(calls, 1000 + 3 * calls) for calls in range(0, 100, 10)]
    assert slope(steady) == 3
    assert slope([*steady[:4], (40, 10**9), *steady[5:]]) == 3
    assert slope([(0, 500), (10, 500), (20, 500)]) == 0


def test_two_samples_in_order_are_the_least() -> None:
    for samples in ([], [(0, 1)], [(10, 1), (10, 2)], [(10, 1), (5, 1)]):
        with pytest.raises(ValueError, match="two samples"):
            slope(samples)
