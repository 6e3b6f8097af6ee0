"""Holding the answers of a loaded model against what its manifest promises."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from inframind.lib.canonical import canonical_json
from inframind.lib.problem import Problem
from marketplace.catalog import schemas, tolerance, trial

_INFER_TIMEOUT_SECONDS = 10.0
_BUDGET_SECONDS = 120.0
_SHOWN_CHARACTERS = 200
_MEND_OUTPUT = "Make the model keep output_schema, or widen the schema."


@dataclass(frozen=True)
class Case:
    """An input, and the golden output with its tolerance where there is one."""

    title: str
    document: Any
    golden: Any = None
    has_golden: bool = False
    absolute: float = 0.0
    relative: float = 0.0


class Fault(NamedTuple):
    """What is wrong with an answer, and what its owner can do; false when nothing is."""

    detail: str = ""
    code: str = ""
    remedy: str = ""

    def __bool__(self) -> bool:
        return bool(self.detail)


def hold(
    cases: list[Case],
    validator: schemas.Validator,
    session: trial.TrialSession,
    *,
    streaming: bool,
    beat: Callable[[], None],
) -> tuple[int, Fault]:
    """How many cases the model passed, and the first fault.

    Of a ``streaming`` model each piece is held against the schema, and a golden output is the list
    of its pieces. Ends early when the model hangs or 120 seconds are over. Raises TrialFailure when
    the fault lies with the node.
    """
    started = time.monotonic()
    passed, first = 0, Fault()
    for case in cases:
        beat()
        if time.monotonic() - started > _BUDGET_SECONDS:
            first = first or Fault(
                f"Time ran out after {passed} of {len(cases)} inputs.",
                "too-slow",
                "Make the model faster.",
            )
            break
        fault = _of(case, validator, session, streaming=streaming)
        if not fault:
            passed += 1
            continue
        first = first or fault._replace(detail=f"{case.title}: {fault.detail}")
        if fault.code == "timed-out":
            break
    return passed, first


def _of(
    case: Case, validator: schemas.Validator, session: trial.TrialSession, *, streaming: bool
) -> Fault:
    """What is wrong with the model's answer; an empty fault when nothing is."""
    try:
        output = session.infer(case.document, timeout_seconds=_INFER_TIMEOUT_SECONDS)
    except Problem as problem:
        places = "; ".join(f"{v.pointer or '/'}: {v.detail}" for v in problem.violations[:3])
        return Fault(
            f"input_schema allows it, the tensors do not: {places or problem.detail}",
            problem.code,
            "Make input_schema allow only what the tensors hold.",
        )
    except trial.TrialFailure as failure:
        if failure.retry:
            raise
        return Fault(failure.detail, failure.code, failure.remedy)
    try:
        canonical_json(output)
    except (ValueError, TypeError) as error:
        return Fault(f"the output is not JSON: {error}", "invalid-output", _MEND_OUTPUT)
    if streaming and not output:
        return Fault(
            "the answer ended without a piece",
            "invalid-output",
            "Yield at least one piece, or make input_schema allow only what has one.",
        )
    for position, each in enumerate(output if streaming else [output], 1):
        violations = validator.violations(each)
        if violations:
            first = violations[0]
            what = f"piece {position} of the output" if streaming else "the output"
            return Fault(
                f"{what} breaks output_schema at {first.pointer or '/'}: {first.detail}",
                "invalid-output",
                _MEND_OUTPUT,
            )
    if case.has_golden:
        apart = tolerance.difference(
            output, case.golden, absolute=case.absolute, relative=case.relative
        )
        if apart is not None:
            return Fault(f"the output is not the golden one: {apart}", "other-output")
    return Fault()


def key(document: Any) -> bytes:
    """The same bytes for the same document."""
    try:
        return orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return repr(document).encode("utf-8", "replace")


def shown(document: Any) -> str:
    """A document in a line that is not too long."""
    text = key(document).decode("utf-8", "replace")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
