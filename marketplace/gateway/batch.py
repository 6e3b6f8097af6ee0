"""Many documents in one request: each is a call of its own, made beside the others.

Each input has its own id, row, charge and fate; a model that Triton batches gets them together.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
from django.conf import settings

from inframind.lib.amounts import amount_document, format_ifm, parse_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem, Violation
from marketplace.gateway import body, calling, keyed, pipeline
from marketplace.gateway.context import CallRequest
from marketplace.gateway.wire import Answer, Request
from marketplace.mesh.asyncdb import in_thread

MAX_INPUTS: Final = 256
# Fewer than a node's queue takes, so that one batch turns nobody else's calls away.
AT_ONCE: Final = 32
ANSWER_MAX_BYTES: Final = 64 << 20
_OF_ALL: Final = (
    "Inframind-Model", "RateLimit", "RateLimit-Policy", "Deprecation", "Sunset", "Link",
)  # fmt: skip


@dataclass
class _Batch:
    """The inputs that still wait, and what came of the others."""

    one: CallRequest  # what the calls have in common
    key: str | None
    waiting: Iterator[tuple[int, bytes]]
    results: list[bytes]
    started: float = field(default_factory=time.monotonic)
    served: int = 0
    fee_base_units: int = 0
    answer_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)


async def call(request: Request, reference: str) -> Answer:
    """Runs the model on each document of the array in the body.

    Raises ``Problem`` for what concerns all of them: 401, 403, 404, 410, 413 for a body or an array
    that is too long, 415, 422 for what is no array of documents, 402 ``over-budget`` where the
    inputs together cost more. What concerns one input is in its place in the answer.
    """
    bearer, budget = calling.credentials(request)
    calling.require_json(request.headers.get("content-type", ""))
    one = calling.call_request(request, reference, bearer, budget)
    head = await calling.admitted(one)
    if one.idempotency_key is not None:
        keyed.check(one.idempotency_key)
    if len(request.body) > body.HEAVY_BYTES:
        documents = await in_thread(_documents, request.body)
    else:
        documents = _documents(request.body)
    count = len(documents)
    if budget is not None:
        fee = head.version.fee_base_units
        if fee * count > budget:
            raise Problem(
                "over-budget",
                f"{count} calls cost {format_ifm(fee * count)}, the budget is "
                f"{format_ifm(budget)}. None was made.",
                status=402,
                remedy="Raise Inframind-Budget, or send fewer inputs.",
                extra={"price": amount_document(fee * count)},
            )
        # A price that rises meanwhile cannot take the whole above the budget either.
        one = replace(one, budget_base_units=budget // count)
    batch = _Batch(one, one.idempotency_key, iter(enumerate(documents)), [b""] * count)
    done = await asyncio.gather(
        *(_work(batch) for _ in range(min(count, AT_ONCE))), return_exceptions=True
    )
    for failed in done:
        # Not before the others have come to their end: what they cost is written down.
        if failed is not None:
            raise failed
    total = {
        "model": f"{head.version.name}@{head.version.number}",
        "served": batch.served,
        "fee": amount_document(batch.fee_base_units),
    }
    pieces = (orjson.dumps(total)[:-1], b',"results":[', b",".join(batch.results), b"]}")
    headers = {
        **batch.headers,
        "Content-Type": "application/json",
        "Inframind-Fee": format_ifm(batch.fee_base_units),
    }
    return Answer(200, b"".join(pieces), headers)


def key_of(key: str, index: int) -> str:
    """The idempotency key of one input, of the batch's and the input's place."""
    return f"batch-{hashlib.sha256(f'{index} {key}'.encode()).hexdigest()}"


def _documents(octets: bytes) -> list[bytes]:
    inputs = body.read(octets, max_bytes=settings.CALL_BODY_MAX_BYTES)
    if not isinstance(inputs, list) or not inputs:
        detail = "A batch is a JSON array of input documents, with one at least."
        raise Problem(
            "invalid-input",
            detail,
            status=422,
            violations=(Violation("", detail),),
            remedy="Send one document to the address without /batch, several as an array here.",
        )
    if len(inputs) > MAX_INPUTS:
        raise Problem(
            "too-large",
            f"The batch has {len(inputs)} inputs, and {MAX_INPUTS} is the most.",
            status=413,
            remedy="Send them in several batches.",
        )
    return [orjson.dumps(each) for each in inputs]


async def _work(batch: _Batch) -> None:
    """Makes one call after the other until none waits."""
    for index, document in batch.waiting:
        left = batch.one.deadline_seconds - (time.monotonic() - batch.started)
        if batch.answer_bytes > ANSWER_MAX_BYTES:
            batch.results[index] = _untried(
                Problem(
                    "too-large",
                    f"The outputs before this one have more than {ANSWER_MAX_BYTES} bytes.",
                    status=413,
                    remedy="Send this input in another batch.",
                    retry_safe=True,
                )
            )
        elif left <= 0:
            batch.results[index] = _untried(
                Problem(
                    "timed-out",
                    "The batch took its whole time before this input's turn came.",
                    status=504,
                    remedy="Send this input again, in a smaller batch.",
                    retry_safe=True,
                )
            )
        else:
            await _make(batch, index, document, left)


async def _make(batch: _Batch, index: int, document: bytes, seconds: float) -> None:
    key = batch.key
    made = await pipeline.call(
        replace(
            batch.one,
            call_id=new_uuid7(),
            body=document,
            deadline_seconds=seconds,
            idempotency_key=key and key_of(key, index),
        )
    )
    served, headers = made.status == 200, made.headers
    told: dict[str, Any] = {
        "receipt": headers.get("Inframind-Receipt"),
        "fee": headers.get("Inframind-Fee", "0 IFM"),
        "node": headers.get("Inframind-Node"),
    }
    if "Idempotency-Replayed" in headers:
        told["replayed"] = True
    member = b"output" if served else b"problem"
    batch.results[index] = b'{"status":%d,"%s":%s,%s' % (
        made.status, member, made.document, orjson.dumps(told)[1:],
    )  # fmt: skip
    batch.answer_bytes += len(made.document)
    batch.headers = {name: headers[name] for name in _OF_ALL if name in headers}
    if served:
        batch.served += 1
        batch.fee_base_units += parse_ifm(told["fee"])


def _untried(problem: Problem) -> bytes:
    document = {"status": problem.status, "problem": problem.as_document()}
    return orjson.dumps({**document, "receipt": None, "fee": "0 IFM", "node": None})
