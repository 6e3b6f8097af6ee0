"""A node's load and health as one gateway sees them, the retry budget, the tail of latencies."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.mesh import load
from marketplace.mesh.load import LOST, REFUSED, SPOILED, Load, RetryBudget, Tail

NOW = 1_000.0


def test_a_node_that_nobody_listens_on_is_left_alone_twice_as_long_each_time() -> None:
    node, now, seconds = Load(8), NOW, []
    for _ in range(7):
        assert node.struck(REFUSED, "refused", now)
        seconds.append(node.ejected_until - now)
        now = node.ejected_until
    assert seconds == [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


def test_an_ejection_long_ago_is_forgotten() -> None:
    node = Load(8)
    node.struck(REFUSED, "refused", NOW)
    node.answered(0.01, NOW + 2)
    later = NOW + 2 + load.FORGOTTEN_SECONDS
    node.struck(REFUSED, "refused", later)
    assert node.ejected_until - later == 1.0


def test_one_death_seen_by_many_calls_is_one_failure() -> None:
    node = Load(8)
    for _ in range(50):
        node.struck(REFUSED, "refused", NOW)
    assert (node.ejections, node.ejected_until) == (1, NOW + 1)


def test_one_broken_connection_is_an_accident_two_in_a_row_are_not() -> None:
    node = Load(8)
    assert not node.struck(LOST, "broken", NOW)
    node.answered(0.01, NOW)
    assert not node.struck(LOST, "broken", NOW)
    assert node.struck(LOST, "broken", NOW)


def test_three_answers_in_a_row_that_nobody_can_use_eject() -> None:
    node = Load(8)
    assert [node.struck(SPOILED, "garbage", NOW) for _ in range(3)] == [False, False, True]


def test_every_second_call_failing_ejects_though_never_two_in_a_row() -> None:
    node = Load(8)
    calls = 0
    while not node.ejected_until and calls < 200:
        node.answered(0.01, NOW)
        node.struck(LOST, "broken", NOW)
        calls += 2
    assert 0 < calls < 100


def test_an_ejected_node_is_given_one_call_to_show_that_it_is_well() -> None:
    node = Load(8)
    node.struck(REFUSED, "refused", NOW)
    assert not node.opens(NOW + 0.9)
    assert node.opens(NOW + 1)
    node.try_out(NOW + 1)
    assert not node.opens(NOW + 1)
    assert node.opens(NOW + 1 + load.TRIAL_SECONDS)
    node.answered(0.01, NOW + 1.1)
    assert (node.ejected_until, node.reason) == (0.0, "")


def test_a_trial_that_fails_ejects_for_longer() -> None:
    node = Load(8)
    node.struck(REFUSED, "refused", NOW)
    node.try_out(NOW + 1)
    # Half a strike is enough for one on trial.
    assert node.struck(LOST, "broken", NOW + 1.5)
    assert node.ejected_until == NOW + 3.5


@pytest.mark.parametrize(
    ("seconds", "limit"), [(0.001, 256), (0.025, 80), (0.1, 20), (0.25, 8), (3.0, 8)]
)
def test_the_faster_a_node_answers_the_more_calls_may_be_there(seconds: float, limit: int) -> None:
    node = Load(8)
    assert node.limit == 32
    for _ in range(200):
        node.answered(seconds, NOW)
    assert node.limit == limit


@given(st.floats(1, 10_000), st.integers(1, 64))
def test_the_limit_settles_where_a_pile_only_makes_calls_wait(
    per_second: float, capacity: int
) -> None:
    """With every place taken, latency is the pile over the node's speed: neither runs away."""
    node = Load(capacity)
    for _ in range(400):
        node.answered(node.limit / per_second, NOW)
    assert capacity <= node.limit <= 32 * capacity
    seconds = node.limit / per_second
    assert node.limit == capacity or seconds <= 2 * load.PILE_SECONDS


def test_a_node_that_was_started_anew_is_as_new() -> None:
    node = Load(8)
    for _ in range(4):
        node.answered(0.001, NOW)
    node.struck(REFUSED, "refused", NOW)
    node.revive()
    assert (node.ejected_until, node.ejections, node.limit, node.seconds) == (0.0, 0, 32, 0.0)


def test_a_fifth_of_the_calls_may_be_sent_twice() -> None:
    budget = RetryBudget()
    for _ in range(1_000):
        budget.note_call(NOW)
    assert sum(budget.take(NOW) for _ in range(1_000)) == 200


def test_at_least_sixteen_calls_may_be_sent_twice_in_ten_seconds() -> None:
    budget = RetryBudget()
    assert sum(budget.take(NOW) for _ in range(100)) == 16
    assert not budget.take(NOW + 9)
    assert sum(budget.take(NOW + 11) for _ in range(100)) == 16


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=300))
def test_in_no_ten_seconds_more_is_sent_twice_than_the_share(
    events: list[tuple[float, bool]],
) -> None:
    budget, now = RetryBudget(), NOW
    calls: list[float] = []
    retries: list[float] = []
    for pause, is_call in events:
        now += pause
        if is_call:
            budget.note_call(now)
            calls.append(now)
        elif budget.take(now):
            retries.append(now)
        # A slot of a second counts as long as its beginning is within: that is 11 s at most.
        within = [each for each in retries if each > now - 9]
        seen = sum(each > now - 12 for each in calls)
        assert len(within) <= max(16, 0.2 * seen)


def test_the_tail_is_followed() -> None:
    chance = random.Random(7)
    tail = Tail()
    assert tail.late_seconds is None
    for _ in range(20_000):
        tail.note(chance.uniform(0.010, 0.020))
    assert tail.late_seconds == pytest.approx(0.0195, abs=0.001)
