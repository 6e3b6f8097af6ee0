"""Reputation and fault, by the numbers."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.mesh.reputation import (
    ALL_BPS,
    MIN_SAMPLE,
    Standing,
    Work,
    at_fault,
    standings,
)

A, B, C = (UUID(int=number) for number in (1, 2, 3))
ECHO, DOUBLER = UUID(int=11), UUID(int=12)


def standing_of(*works: Work, medians: dict[UUID, float] | None = None) -> Standing:
    active = {work.node_id for work in works}
    return standings(works, version_medians_us=medians or {}, active=active)[A]


def test_the_parts_are_weighed_as_the_protocol_says() -> None:
    slow = Work(A, ECHO, served=80, failed=10, late=6, missed=4, median_us=2_000)
    quick = Work(B, ECHO, served=100, median_us=1_000)
    found = standing_of(slow, quick, medians={ECHO: 1_000})
    # 80 of 96 that were taken up succeeded; 90 of 100 were answered in time; another is faster.
    assert (found.success_bps, found.sla_bps, found.latency_bps) == (8_333, 9_000, 0)
    assert found.reputation_bps == (50 * 8_333 + 30 * 9_000) // 100
    assert (found.calls, found.answered) == (100, 96)


def test_below_the_sample_nothing_is_said_and_nothing_taken() -> None:
    found = standing_of(Work(A, ECHO, failed=MIN_SAMPLE - 1))
    assert (found.reputation_bps, found.success_bps, found.calls) == (None, None, 49)
    assert (found.paid_calls, found.serves) == (True, True)


@pytest.mark.parametrize(
    ("served", "paid_calls", "serves"),
    [(850, True, True), (849, False, True), (700, False, True), (699, False, False)],
)
def test_85_and_70_percent_are_the_limits(served: int, paid_calls: bool, serves: bool) -> None:
    found = standing_of(Work(A, ECHO, served=served, failed=1_000 - served))
    assert (found.paid_calls, found.serves) == (paid_calls, serves)


def test_calls_that_a_node_never_took_up_cost_reputation_but_suspend_nobody() -> None:
    found = standing_of(Work(A, ECHO, served=10, missed=990))
    assert (found.success_bps, found.sla_bps) == (10_000, 100)
    assert (found.paid_calls, found.serves) == (True, True)
    silent = standing_of(Work(A, ECHO, missed=100))
    assert (silent.reputation_bps, silent.serves) == (0, True)


def test_a_node_with_heavy_models_is_not_the_slow_one() -> None:
    works = [
        Work(A, DOUBLER, served=100, median_us=900_000),
        Work(B, ECHO, served=100, median_us=1_000),
    ]
    found = standings(works, version_medians_us={DOUBLER: 900_000, ECHO: 1_000}, active={A, B})
    assert [found[node].latency_bps for node in (A, B)] == [ALL_BPS, ALL_BPS]


def test_latency_is_ranked_among_active_nodes_and_small_differences_are_none() -> None:
    works = [
        Work(A, ECHO, served=100, median_us=1_050),
        Work(B, ECHO, served=100, median_us=1_000),
        Work(C, ECHO, served=100, median_us=500),
    ]
    medians: dict[UUID, float] = {ECHO: 1_000}
    found = standings(works, version_medians_us=medians, active={A, B, C})
    assert [found[node].latency_bps for node in (A, B, C)] == [5_000, 5_000, ALL_BPS]
    found = standings(works, version_medians_us=medians, active={A, B})
    assert [found[node].latency_bps for node in (A, B)] == [ALL_BPS, ALL_BPS]


def test_a_version_that_fails_on_two_nodes_is_at_fault() -> None:
    assert at_fault([Work(A, ECHO, failed=10), Work(B, ECHO, served=8, late=2)]) == {ECHO}


def test_one_that_does_well_elsewhere_is_not() -> None:
    assert at_fault([Work(A, ECHO, failed=10), Work(B, ECHO, served=10)]) == set()
    # Two bad nodes of five do not make a bad version.
    others = [Work(uuid4(), ECHO, served=100) for _ in range(3)]
    assert at_fault([Work(A, ECHO, failed=10), Work(B, ECHO, failed=10), *others]) == set()


def test_a_version_on_one_node_is_at_fault_where_others_do_well_there() -> None:
    bad = Work(A, ECHO, failed=10)
    assert at_fault([bad]) == set()
    assert at_fault([bad, Work(A, DOUBLER, served=49)]) == set()
    assert at_fault([bad, Work(A, DOUBLER, served=50)]) == {ECHO}
    assert at_fault([bad, Work(A, DOUBLER, served=50, failed=50)]) == set()


def test_a_few_failures_or_unanswered_calls_put_no_version_at_fault() -> None:
    assert at_fault([Work(A, ECHO, failed=9), Work(B, ECHO, failed=9)]) == set()
    assert at_fault([Work(A, ECHO, missed=90), Work(B, ECHO, missed=90)]) == set()


def test_what_is_held_against_a_version_is_not_held_against_a_node() -> None:
    found = standing_of(
        Work(A, ECHO, served=60, failed=30, late=10, excused_failed=30, excused_late=10)
    )
    assert (found.success_bps, found.sla_bps, found.calls) == (10_000, 10_000, 60)


COUNT = st.integers(0, 1_000)


@given(
    st.lists(
        st.builds(
            Work,
            st.sampled_from([A, B, C]),
            st.sampled_from([ECHO, DOUBLER]),
            COUNT,
            COUNT,
            COUNT,
            COUNT,
            median_us=st.none() | st.floats(0, 1e9),
        ),
        unique_by=lambda work: (work.node_id, work.version_id),
    ),
    st.sets(st.sampled_from([A, B, C])),
    st.fixed_dictionaries({}, optional={ECHO: st.floats(0, 1e9), DOUBLER: st.floats(0, 1e9)}),
)
def test_all_figures_are_shares_or_none_of_them_is(
    works: list[Work], active: set[UUID], medians: dict[UUID, float]
) -> None:
    for found in standings(works, version_medians_us=medians, active=active).values():
        parts = (found.reputation_bps, found.success_bps, found.sla_bps, found.latency_bps)
        if found.calls < MIN_SAMPLE:
            assert parts == (None,) * 4
        else:
            assert all(part is not None and 0 <= part <= ALL_BPS for part in parts)
        assert found.paid_calls or found.answered >= MIN_SAMPLE
        assert found.serves or not found.paid_calls


@given(COUNT, COUNT, COUNT, COUNT)
def test_one_more_success_never_lowers_a_reputation(
    served: int, failed: int, late: int, missed: int
) -> None:
    before = standing_of(Work(A, ECHO, served, failed, late, missed, median_us=5))
    after = standing_of(Work(A, ECHO, served + 1, failed, late, missed, median_us=5))
    assert (after.reputation_bps or 0) >= (before.reputation_bps or 0)
