"""Streams when nodes die: another takes over before the first piece, nobody after it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inframind.devstack.triton import Node as Server
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from marketplace.mesh import placing
from marketplace.mesh.models import Placement
from tests import servers

from ..mesh import serving
from ..mesh.conftest import joined
from ..mesh.test_streams import TALKER
from . import money
from .money import FEE
from .test_streaming import asking, events_of, row_of, said, serving_on, told

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sandboxes(transactional_db: None, settings: Any, tmp_path: Path) -> Iterator[list[Server]]:
    """Two servers of this test alone that take publisher code."""
    with (
        servers.private_node(name="talk-one", is_sandbox=True) as one,
        servers.private_node(name="talk-two", is_sandbox=True) as two,
        joined([one.document(), two.document()], settings, tmp_path),
    ):
        yield [one, two]


@pytest.fixture
def dear(sandboxes: list[Server]) -> Version:
    """A streaming model at a price, on both of them."""
    version = serving.list_python(serving.fresh_name("talker"), TALKER, streaming=True)
    for node in placing.eligible_nodes(version):
        placement = placing.place(version_id=version.pk, node_id=node.pk)
        assert (placement.state, placement.reason) == (Placement.State.READY, "")
    money.fund(money.GUEST, 20 * FEE)
    Version.objects.filter(pk=version.pk).update(fee_base_units=FEE)
    return Version.objects.get(pk=version.pk)


def family_of(process: int) -> list[int]:
    """The process with all that it started."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in family_of(int(child)))]


def test_a_node_that_dies(dear: Version, sandboxes: list[Server]) -> None:
    token = money.token_of()
    with serving_on("application") as server:
        # In the middle of an answer: an event, at no charge.
        with asking(server, dear, "slow " * 100, token=token) as answer:
            events = events_of(answer.iter_lines())
            assert next(events) == said("slow")[0]
            name = answer.headers["inframind-node"]
            (dying,) = [each for each in sandboxes if each.name == name]
            dying.kill()
            *_, (kind, problem) = events
        assert (kind, problem["type"]) == ("error", "/problems/stream-broken")
        assert problem["charged"] is False
        row = row_of(answer.headers["inframind-receipt"])
        assert (row.outcome, row.problem_code, row.node_name) == (
            Call.Outcome.NO_NODE,
            "stream-broken",
            name,
        )
        assert row.missed_nodes == [row.node_id]
        assert money.spent() == 0
        # Before its first piece: the other one answers.
        for _ in range(4):
            found = told(server, dear, "one", token=token)
            assert found[0] == said("one")[0]
            assert found[1][1]["node"] != name
    assert money.spent() == 4 * FEE


def test_a_node_that_hangs_is_left_before_a_piece(dear: Version, sandboxes: list[Server]) -> None:
    hanging = sandboxes[0]
    assert hanging.child is not None
    processes = family_of(hanging.child.pid)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    started = time.monotonic()
    try:
        with serving_on("application") as server:
            for _ in range(4):
                (piece, (kind, done)) = told(server, dear, "one", token=money.token_of())
                assert (piece, kind) == (said("one")[0], "done")
                assert done["node"] != hanging.name
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    assert money.spent() == 4 * FEE
    assert time.monotonic() - started < 25
