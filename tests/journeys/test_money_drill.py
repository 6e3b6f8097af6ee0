"""Two hundred crashes under paying callers: nothing is lost, nothing is charged twice.

``DRILL_KILLS`` and ``DRILL_SEED`` choose another length and another course.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys import books, ordeal
from tests.journeys.crashing import Crashing

pytestmark = pytest.mark.drill
KILLS = int(os.environ.get("DRILL_KILLS") or 200)
SEED = os.environ.get("DRILL_SEED") or "1"
WEB_PROCESSES = 3
EPOCH_SECONDS = 20


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    stack = Crashing.start(tmp_path, web_processes=WEB_PROCESSES, RECEIPT_EPOCHS_KEPT="10000")
    try:
        yield stack
    finally:
        stack.close()


def test_nothing_is_lost_and_nothing_is_doubled(
    crashing: Crashing, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callers = ordeal.callers_of(crashing, tmp_path, seed=SEED, epoch_seconds=EPOCH_SECONDS)
    callers.start()
    try:
        done = _crash(crashing, random.Random(SEED))
    finally:
        callers.stop()
    ordeal.settle(crashing, callers)
    found = books.audit(crashing, callers, ordeal.DEPOSITS)
    with capsys.disabled():
        sys.stdout.write(
            f"\nseed={SEED} kills={sum(done.values())} calls={callers.attempts} "
            f"answered={len(callers.answered)} epochs={found.epochs} lost={len(found.lost)} "
            f"doubled={len(found.doubled)} books={'chain' if not found.differences else 'differ'}\n"
            f"{', '.join(f'{what} {count}' for what, count in sorted(done.items()))}\n"
        )
    assert callers.surprises == []
    assert found.lost == []
    assert found.doubled == []
    assert found.differences == []
    assert sum(done.values()) >= KILLS
    assert found.epochs > 1


def _crash(crashing: Crashing, rng: random.Random) -> Counter[str]:
    """Kills until there were enough; what was killed how often."""
    done: Counter[str] = Counter()

    def kill_web() -> None:
        crashing.kill_web(rng.randrange(WEB_PROCESSES))

    def kill_closing() -> None:
        child = crashing.begin("close_epoch")
        time.sleep(rng.uniform(0.5, 4.0))
        child.kill()

    def kill_node() -> None:
        crashing.kill_node(rng.randrange(len(crashing.nodes)))

    def pause_node() -> None:
        with crashing.node_paused(rng.randrange(len(crashing.nodes))):
            time.sleep(rng.uniform(0.5, 6.0))

    def pause_chain() -> None:
        with crashing.chain_paused():
            time.sleep(rng.uniform(0.5, 6.0))

    kinds: dict[str, tuple[int, Callable[[], None]]] = {
        "web": (42, kill_web),
        "node": (10, kill_node),
        "node-pause": (4, pause_node),
        "worker": (18, crashing.kill_worker),
        "beat": (6, crashing.kill_beat),
        "close_epoch": (8, kill_closing),
        "postgres": (4, crashing.kill_postgres),
        "redis": (4, crashing.kill_redis),
        "redis-flush": (3, crashing.flush_redis),
        "chain-pause": (3, pause_chain),
        "chain-restart": (2, crashing.restart_chain),
    }
    while sum(done.values()) < KILLS:
        time.sleep(rng.uniform(0.1, 2.0))
        crashing.await_some()
        [what] = rng.choices(list(kinds), weights=[weight for weight, _ in kinds.values()])
        kinds[what][1]()
        done[what] += 1
    return done
