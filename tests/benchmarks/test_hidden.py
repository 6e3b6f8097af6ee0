"""The statistics that says whether time tells."""

from __future__ import annotations

import random

import pytest

from benchmarks.hidden import signed_rank_z


def test_the_statistic_of_a_worked_example() -> None:
    # Ranks 1, 2, 3 of which 3 and 1 are positive: W+ = 4, mean 3, variance 3.5.
    assert signed_rank_z([1.0, -2.0, 3.0]) == pytest.approx((4 - 3) / 3.5**0.5)


def test_ties_share_their_rank_and_zeros_count_for_nothing() -> None:
    # |1| twice: rank 1.5 each, so W+ = 1.5, mean 1.5.
    assert signed_rank_z([1.0, -1.0, 0.0]) == 0.0


def test_a_shift_is_found_among_noise_and_noise_alone_is_none() -> None:
    drawn = random.Random(7)
    noise = [drawn.gauss(0, 100) for _ in range(2000)]
    assert abs(signed_rank_z(noise)) < 3.89
    assert signed_rank_z([each + 20 for each in noise]) > 3.89
