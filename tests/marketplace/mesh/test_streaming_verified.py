"""Verification of streaming versions on a real node: every piece is held against the schema."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from marketplace.catalog import services, verification
from marketplace.catalog.models import Verification, Version
from marketplace.mesh.models import Node

from . import serving

pytestmark = pytest.mark.django_db(transaction=True)

SPELLER = """
class Model:
    def __init__(self, package):
        pass

    def predict(self, document):
        yield {"said": "begin"}
        for letter in document["text"][:3]:
            yield {"said": LETTER}
"""
EXAMPLES = [{"input": {"text": "ab"}, "output": [{"said": "begin"}, {"said": "a"}, {"said": "b"}]}]


def verified(code: str, examples: Sequence[object] = EXAMPLES) -> Verification:
    version = serving.list_python(
        serving.fresh_name("speller"), code, streaming=True, examples=list(examples), activate=False
    )
    # Its code was not approved yet when it was registered.
    services.request_verification(version=version)
    run = verification.verify_next()
    assert run is not None
    assert run.version == version
    return run


def test_pieces_that_keep_the_schema_pass(mesh: list[Node]) -> None:
    run = verified(SPELLER.replace("LETTER", "letter"))

    assert (run.state, run.reason) == (Verification.State.PASSED, "")
    assert run.version.state == Version.State.ACTIVE
    assert {each.kind: each.passed for each in run.checks.all()}["generated"] is True


def test_a_piece_that_breaks_the_schema_is_told_with_its_place(mesh: list[Node]) -> None:
    run = verified(SPELLER.replace("LETTER", "7 if letter == 'b' else letter"))

    assert run.state == Verification.State.FAILED
    assert "piece 3 of the output breaks output_schema at /said" in run.reason


def test_other_pieces_than_the_example_s_fail(mesh: list[Node]) -> None:
    run = verified(SPELLER.replace("LETTER", "letter.upper()"))

    assert run.state == Verification.State.FAILED
    assert "not the golden one" in run.reason


def test_an_answer_without_a_piece_fails(mesh: list[Node]) -> None:
    silent = "class Model:\n    def __init__(self, package):\n        pass\n\n"
    run = verified(f"{silent}    def predict(self, document):\n        return iter(())\n", [])

    assert run.state == Verification.State.FAILED
    assert "ended without a piece" in run.reason


def test_a_model_that_returns_its_answer_is_told_to_yield(mesh: list[Node]) -> None:
    run = verified(serving.ECHO, [])

    assert run.state == Verification.State.FAILED
    assert "predict returned dict; that of a streaming model yields dicts" in run.reason
