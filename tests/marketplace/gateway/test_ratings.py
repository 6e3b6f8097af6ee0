"""From rows of calls to standings: what counts, once each, and what the walk costs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from marketplace.catalog.models import Verification, Version
from marketplace.gateway import ratings
from marketplace.gateway.models import Call
from marketplace.mesh import reputation, services
from marketplace.mesh.faults import CHECK_AGAIN_AFTER
from marketplace.mesh.models import Node, NodeJob, Placement
from tests.marketplace.gateway.callrows import call_row, call_rows, node_called, now, written
from tests.marketplace.mesh.serving import list_doubler


@pytest.fixture
def version(db: None, settings: Any, tmp_path: Path) -> Version:
    settings.STORE_DIR = tmp_path / "store"
    return list_doubler("doubler-v1")


@pytest.fixture
def node(db: None) -> Node:
    return node_called("node-a")


@pytest.fixture
def other(db: None) -> Node:
    return node_called("node-b")


def fresh(node: Node) -> Node:
    return Node.objects.get(pk=node.pk)


def results(node: Node) -> list[str]:
    return sorted(NodeJob.objects.filter(node=node).values_list("result", flat=True))


def test_a_node_is_rated_by_its_calls(version: Version, node: Node) -> None:
    written(call_rows(54, version, node))
    written(call_rows(6, version, node, "invalid-output"))

    assert ratings.rate_nodes() == 60

    rated = fresh(node)
    assert (rated.success_bps, rated.sla_bps, rated.latency_bps) == (9_000, 10_000, 10_000)
    assert (rated.reputation_bps, rated.rated_calls, rated.paid_calls) == (9_500, 60, True)
    assert rated.rated_at is not None


def test_a_call_counts_once_however_often_it_is_read(version: Version, node: Node) -> None:
    written(call_rows(5, version, node))
    assert ratings.rate_nodes() == 5
    # The same seconds are walked again, for what was committed late.
    written([call_row(version, node, age=timedelta(seconds=10))])
    assert ratings.rate_nodes() == 6
    assert results(node) == ["served"] * 6


def test_what_says_nothing_of_a_node_is_left_out(
    version: Version, node: Node, other: Node, settings: Any
) -> None:
    deadline_us = settings.CALL_DEADLINE_SECONDS * 1_000_000
    written(
        [
            call_row(version, node, "refused"),
            call_row(version, node, "invalid-input"),
            call_row(version, None, "no-node"),
            call_row(version, node, linked=True),
            # The caller's own deadline.
            call_row(version, node, "timed-out", latency_us=1_000),
            call_row(version, node, "timed-out", latency_us=deadline_us),
            call_row(version, node, "model-failed"),
            call_row(version, None, "no-node", missed_nodes=[node.pk, node.pk]),
            call_row(version, other, missed_nodes=[node.pk]),
            # It answered after all.
            call_row(version, other, missed_nodes=[other.pk]),
        ]
    )
    ratings.rate_nodes()
    assert results(node) == ["failed", "late", "missed", "missed"]
    assert results(other) == ["served", "served"]


def test_only_the_last_thousand_calls_count(version: Version, node: Node) -> None:
    bad = timedelta(seconds=40)
    written(call_rows(50, version, node, "model-failed", age=bad))
    written(call_rows(reputation.WINDOW - 10, version, node))
    ratings.rate_nodes()
    assert (fresh(node).rated_calls, fresh(node).success_bps) == (1_000, 9_900)
    written(call_rows(10, version, node))
    ratings.rate_nodes()
    assert (fresh(node).rated_calls, fresh(node).success_bps) == (1_000, 10_000)
    assert NodeJob.objects.count() == reputation.WINDOW


def test_a_worker_that_was_away_catches_up(
    version: Version, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = [timedelta(hours=30), timedelta(hours=5), timedelta(minutes=7), timedelta(0)]
    written(call_row(version, node, age=age) for age in ages)
    monkeypatch.setattr(ratings, "ROUND_SECONDS", 0)
    ratings.rate_nodes()
    first = fresh(node).rated_at
    ratings.rate_nodes()
    second = fresh(node).rated_at
    assert first is not None
    assert second is not None
    assert second - first == ratings.STEP
    assert results(node) == []

    monkeypatch.setattr(ratings, "ROUND_SECONDS", 600)
    ratings.rate_nodes()
    assert results(node) == ["served"] * 3


def test_below_85_percent_paid_calls_are_lost_and_come_back_with_success(
    version: Version, node: Node
) -> None:
    written(call_rows(40, version, node, age=timedelta(seconds=30)))
    written(call_rows(10, version, node, "model-failed", age=timedelta(seconds=30)))
    ratings.rate_nodes()
    assert (fresh(node).state, fresh(node).paid_calls) == ("ready", False)
    written(call_rows(20, version, node))
    ratings.rate_nodes()
    assert (fresh(node).paid_calls, fresh(node).success_bps) == (True, 8_571)


def test_a_node_that_is_given_nothing_gets_a_new_start(version: Version, node: Node) -> None:
    written(call_rows(40, version, node))
    written(call_rows(10, version, node, "model-failed"))
    ratings.rate_nodes()
    assert fresh(node).paid_calls is False
    hour = reputation.NEW_START_AFTER
    NodeJob.objects.update(created_at=F("created_at") - hour)
    Call.objects.update(created_at=F("created_at") - hour)

    ratings.rate_nodes()

    assert (fresh(node).paid_calls, fresh(node).reputation_bps) == (True, None)
    ratings.rate_nodes()
    assert (fresh(node).rated_calls, fresh(node).paid_calls) == (0, True)


def test_below_70_percent_a_node_is_suspended_until_its_review(
    version: Version, node: Node
) -> None:
    written(call_rows(34, version, node))
    written(call_rows(16, version, node, "invalid-output"))
    ratings.rate_nodes()
    suspended = fresh(node)
    assert (suspended.state, suspended.success_bps, suspended.paid_calls) == (
        "suspended",
        6_800,
        False,
    )
    assert suspended.state_reason.startswith("Only 68.0 % of the last 50 calls")
    written(call_rows(500, version, node))
    ratings.rate_nodes()
    assert (fresh(node).state, fresh(node).success_bps) == ("suspended", 6_800)

    services.reinstate(node=node)
    ratings.rate_nodes()

    back = fresh(node)
    # Rated afresh: neither what it did before counts, nor what it did while it was suspended.
    assert (back.state, back.reputation_bps, back.paid_calls) == ("down", None, True)
    assert results(node) == []


def test_a_version_that_fails_on_two_nodes_costs_neither_its_standing(
    version: Version, node: Node, other: Node
) -> None:
    Verification.objects.update(created_at=now() - CHECK_AGAIN_AFTER)
    for each in (node, other):
        Placement.objects.create(
            version=version, node=each, state="ready", ready_at=now() - timedelta(minutes=1)
        )
        written(call_rows(60, version, each, "model-failed"))

    ratings.rate_nodes()

    for each in (node, other):
        assert (fresh(each).state, fresh(each).rated_calls) == ("ready", 0)
    counts = Placement.objects.values_list("served_lately", "failed_lately")
    assert set(counts) == {(0, 60)}
    # Its own examples decide, in a new run of the checks.
    run = Verification.objects.get(version=version, state="queued")
    ratings.rate_nodes()
    assert Placement.objects.filter(state="ready").count() == 2

    Verification.objects.filter(pk=run.pk).update(state="failed", reason="It gave nonsense.")
    ratings.rate_nodes()

    taken = Placement.objects.filter(state="failed")
    assert {each.reason for each in taken} == {
        "Failed: 60 of 60 calls on node-a, 60 of 60 calls on node-b. Its checks failed: "
        "It gave nonsense."
    }
    assert taken.count() == 2
    # What it did before it was loaded again is not held against it.
    taken.update(state="ready", ready_at=now())
    ratings.rate_nodes()
    assert Placement.objects.filter(state="ready").count() == 2
    assert Verification.objects.filter(version=version, state="queued").count() == 0


def test_excused_failures_stay_so_when_the_other_node_s_are_forgotten(
    version: Version, node: Node, other: Node
) -> None:
    for each in (node, other):
        written(call_rows(60, version, each, "model-failed"))
    ratings.rate_nodes()
    NodeJob.objects.filter(node=other).delete()
    Call.objects.filter(node=other).delete()
    ratings.rate_nodes()
    assert (fresh(node).state, fresh(node).rated_calls) == ("ready", 0)


def test_with_one_node_failing_the_version_goes_free(
    version: Version, node: Node, other: Node
) -> None:
    written(call_rows(60, version, node, "model-failed"))
    written(call_rows(60, version, other))
    ratings.rate_nodes()
    assert (fresh(node).state, fresh(other).state) == ("suspended", "ready")
    assert not Verification.objects.filter(version=version, state="queued").exists()


def test_use_and_demand_are_read_with_the_calls(version: Version, node: Node, other: Node) -> None:
    placed = Placement.objects.create(version=version, node=node, state="ready", ready_at=now())
    rows = [
        *call_rows(60, version, node, latency_us=1_500_000),
        *call_rows(30, version, other, latency_us=1_000_000),
        call_row(version, None, "no-node", latency_us=0, problem_code="overloaded"),
        call_row(version, node, latency_us=9_000_000, age=timedelta(minutes=5)),
    ]
    written(rows)
    until = now()
    walked = ratings.walk(since=until - timedelta(hours=1), until=until)
    # 120 seconds of calls in 15 seconds.
    assert walked.demands == {version.pk: services.Demand(load=8.0, turned_away=1)}
    assert walked.used == {
        (version.pk, node.pk): rows[59].created_at,
        (version.pk, other.pk): rows[89].created_at,
    }
    ratings.rate_nodes()
    placed.refresh_from_db()
    assert placed.used_at == rows[59].created_at


def test_without_a_node_nothing_is_walked(version: Version) -> None:
    written([call_row(version, None, "no-node")])
    assert ratings.rate_nodes() == 0


def test_the_walk_reads_an_index_from_the_last_look_on(version: Version, node: Node) -> None:
    old = timedelta(days=2)
    written(call_rows(3_000, version, node, age=old))
    written(call_rows(30, version, node))
    with connection.cursor() as cursor:
        # The planner goes by what it counted, and else counts when it pleases.
        cursor.execute("ANALYZE gateway_call, catalog_version")
        statement, parameters = ratings.walk_statement(
            since=now() - timedelta(minutes=1), until=now()
        )
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", parameters)
        plan = cursor.fetchone()[0][0]["Plan"]
    scans = [each for each in nodes_of(plan) if "gateway_call" in each.get("Relation Name", "")]
    assert scans
    for each in scans:
        if "Index Cond" in each:
            assert "created_at" in each["Index Cond"]
            assert "version_id" in each["Index Cond"]
        else:
            # The partition of the epoch to come has nothing in it.
            assert (each["Actual Rows"], each.get("Rows Removed by Filter", 0)) == (0, 0)
    assert sum(each["Actual Rows"] * each["Actual Loops"] for each in scans) == 30
    assert sum(each.get("Rows Removed by Filter", 0) for each in scans) == 0


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(each for child in plan.get("Plans", []) for each in nodes_of(child))]


@pytest.mark.django_db(transaction=True)
def test_two_rounds_at_once_count_a_call_once(
    transactional_db: None, settings: Any, tmp_path: Path
) -> None:
    settings.STORE_DIR = tmp_path / "store"
    version, node = list_doubler("doubler-v1"), node_called("node-a")
    written(call_rows(300, version, node))
    together = threading.Barrier(4)

    def round_of() -> int:
        try:
            together.wait(10)
            return ratings.rate_nodes()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        read = [each.result() for each in [threads.submit(round_of) for _ in range(4)]]

    # More than one of them read the calls: else the test shows nothing.
    assert sum(read) > 300
    assert (NodeJob.objects.count(), fresh(node).rated_calls) == (300, 300)
