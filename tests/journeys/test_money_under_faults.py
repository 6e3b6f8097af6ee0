"""What holds money loses nothing while PostgreSQL crashes, Redis forgets and the chain is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys import books, ordeal
from tests.journeys.callers import Callers
from tests.journeys.crashing import Crashing

pytestmark = [pytest.mark.xdist_group("crashing"), pytest.mark.drill]
ANSWERS = 40
ANSWERED_SECONDS = 60


@pytest.fixture
def crashing(tmp_path: Path) -> Iterator[Crashing]:
    stack = Crashing.start(tmp_path, web_processes=2)
    try:
        yield stack
    finally:
        stack.close()


def _go_on(callers: Callers) -> None:
    """Until so many more calls are answered."""
    deadline, goal = time.monotonic() + ANSWERED_SECONDS, len(callers.answered) + ANSWERS
    while len(callers.answered) < goal:
        assert time.monotonic() < deadline, callers.surprises
        time.sleep(0.05)


def test_callers_are_charged_for_what_they_were_answered_whatever_crashes(
    crashing: Crashing, tmp_path: Path
) -> None:
    callers = ordeal.callers_of(crashing, tmp_path, seed="faults", epoch_seconds=3_600)
    callers.start()
    try:
        _go_on(callers)
        crashing.kill_postgres()
        _go_on(callers)
        crashing.flush_redis()
        _go_on(callers)
        with crashing.chain_paused():
            crashing.kill_web(0)
            _go_on(callers)
        crashing.kill_worker()
        closing = crashing.begin("close_epoch")
        _go_on(callers)
        closing.kill()
        crashing.restart_chain()
        _go_on(callers)
    finally:
        callers.stop()
    ordeal.settle(crashing, callers)
    found = books.audit(crashing, callers, ordeal.DEPOSITS)
    assert callers.surprises == []
    assert found == books.Audit(lost=[], doubled=[], differences=[], epochs=found.epochs)
    assert found.epochs > 1
