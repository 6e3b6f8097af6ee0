"""A model's contract in JSON: the body to tensors, the answer to a document, both by schema."""

from __future__ import annotations

from typing import Any

import orjson
from django.conf import settings

from inframind.lib.problem import Problem, Violation
from marketplace.catalog.schemas import validator_for
from marketplace.gateway import body, oipcontract
from marketplace.gateway.context import Context, Outcome
from marketplace.gateway.digests import digest_of_parsed
from marketplace.gateway.problems import invalid_output
from marketplace.mesh.asyncdb import in_thread
from marketplace.mesh.client import ModelFailed, outgoing_of, tensors_of
from marketplace.mesh.tensors import BadOutput, decode, encode


async def read_input(call: Context) -> None:
    """Reads the body and holds it against the input schema. 413, 422."""
    if call.request.tensors:
        await oipcontract.read_input(call)
        return
    call.outcome = Outcome.INVALID_INPUT
    await _maybe_aside(len(call.request.body), _read_input, call)
    call.admitted_seconds = call.elapsed


async def check_output(call: Context) -> None:
    """Makes the document and holds it against the output schema. 502."""
    if call.request.tensors:
        await oipcontract.check_output(call)
        return
    call.outcome = Outcome.INVALID_OUTPUT
    size = len(call.incoming.content) if call.incoming else 0
    await _maybe_aside(size, _check_output, call)
    call.outcome = Outcome.SERVED


async def _maybe_aside(size_bytes: int, work: Any, call: Context) -> None:
    if size_bytes > body.HEAVY_BYTES:
        await in_thread(work, call)
    else:
        work(call)


def _read_input(call: Context) -> None:
    version = call.version
    document = body.read(call.request.body, max_bytes=settings.CALL_BODY_MAX_BYTES)
    validator = validator_for(f"{version.cid}/input", version.input_schema)
    violations = validator.violations(document)
    if violations:
        raise Problem(
            "invalid-input",
            "The input breaks the model's input schema.",
            status=422,
            violations=violations,
            remedy="Correct what the violations point to and send the call again.",
        )
    try:
        call.input_digest = digest_of_parsed(document)
    except ValueError as error:
        raise Problem(
            "invalid-input",
            str(error),
            status=422,
            violations=(Violation("", str(error)),),
            remedy="Send such numbers as text.",
        ) from None
    tensors = encode(document, call.inputs, max_batch_size=version.max_batch_size)
    call.outgoing = outgoing_of(tensors, timeout_us=int(call.remaining * 1_000_000))


def _check_output(call: Context) -> None:
    version = call.version
    if call.incoming is None:
        raise RuntimeError("No node has answered yet.")
    try:
        tensors = tensors_of(call.incoming)
        document = decode(tensors, call.outputs, max_batch_size=version.max_batch_size)
        call.output_digest = digest_of_parsed(document)
    except (BadOutput, ModelFailed, ValueError, TypeError) as error:
        raise invalid_output(str(error)) from None
    validator = validator_for(f"{version.cid}/output", version.output_schema)
    violations = validator.violations(document)
    if violations:
        raise invalid_output("It breaks the model's output schema.", violations)
    call.output = orjson.dumps(document)
