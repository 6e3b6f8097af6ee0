"""Models that misbehave, verified on real Triton nodes: a clear reason, and nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.mesh import services as mesh_services
from marketplace.mesh.models import Node, Placement
from tests.marketplace.catalog.support import STAFF
from tests.marketplace.mesh.conftest import joined
from tests.marketplace.mesh.serving import (
    UNARY,
    fresh_name,
    list_python,
    list_version,
    mixed_graph,
    unary_graph,
)

DYING = "import os\nclass Model:\n    def __init__(self, package): os._exit(3)\n"
RAISING = "class Model:\n    def __init__(self, package): raise ValueError('no weights')\n"
NAN = (
    "class Model:\n    def __init__(self, package): ...\n"
    "    def predict(self, document): return {'said': float('nan')}\n"
)
MUTE = (
    "import os\nclass Model:\n    def __init__(self, package): ...\n"
    "    def predict(self, document): os._exit(1)\n"
)


@pytest.fixture
def nodes(
    transactional_db: None, triton_nodes: list[dict[str, Any]], settings: Settings, tmp_path: Path
) -> Iterator[list[Node]]:
    with joined(triton_nodes, settings, tmp_path) as nodes:
        yield nodes


def _staff() -> Wallet:
    wallet = Wallet.objects.of(STAFF)
    wallet.is_staff = True
    wallet.save()
    return wallet


def outcome(name: str) -> tuple[str, str]:
    """The reason of the failed run, with its code."""
    run = services.verify_next()
    assert run is not None
    assert (run.version.model_id, run.state, run.version.state) == (name, "failed", "pending")
    assert run.version.state_reason == run.reason
    mesh_services.retire()
    assert not Placement.objects.filter(version=run.version, state="ready").exists()
    return run.reason_code, run.reason


@pytest.mark.parametrize(
    ("graph", "shape", "code", "words"),
    [
        (unary_graph("Log"), [-1], "invalid-output", "NaN or an infinity"),
        (unary_graph("Abs"), [7], "invalid-output", "has shape"),
        (mixed_graph(), [-1], "load-failed", "Loads on a node: no."),
    ],
    ids=["not a number", "another shape", "no library opens it"],
)
def test_a_graph_that_breaks_its_word(
    nodes: list[Node], graph: bytes, shape: list[int], code: str, words: str
) -> None:
    output = {"name": "y", "dtype": "FP32", "shape": shape}
    manifest = {**UNARY, "tensors": {**UNARY["tensors"], "outputs": [output]}}
    name = fresh_name("bad-graph")
    list_version(name, {"model.onnx": graph}, activate=False, runtime="onnx", **manifest)
    found, reason = outcome(name)
    assert (found, words in reason) == (code, True), reason


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (DYING, "load-failed", "ended with status 3"),
        (RAISING, "load-failed", "no weights"),
        (NAN, "invalid-output", "not JSON"),
        (MUTE, "model-failed", "ended with status 1"),
    ],
    ids=["dies on loading", "raises on loading", "not a number", "dies on a call"],
)
def test_code_that_breaks_its_word(nodes: list[Node], source: str, code: str, words: str) -> None:
    name = fresh_name("bad-code")
    version = list_python(name, source, activate=False, reviewed=False)
    services.review_code(version=version, reviewer=_staff(), verdict="approved")
    found, reason = outcome(name)
    assert (found, words in reason) == (code, True), reason
