"""Calls that are answered with events: ``POST /inference/v1/<name>`` with
``Accept: text/event-stream``.

Until the first piece is there such a call is like any other: it fails over, and what goes wrong is
answered with a status of its own. From then on see ``answering``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from inframind.lib.amounts import amount_document, parse_ifm
from inframind.lib.problem import Problem
from marketplace.gateway import admission, events, pipeline, resources
from marketplace.gateway.answering import Answering, cancelled
from marketplace.gateway.context import CallRequest, Context, Outcome
from marketplace.gateway.wire import Answer

Gone = Callable[[], Awaitable[None]]


async def call(request: CallRequest, gone: Gone | None) -> Answer:
    """The call's answer as events. ``gone``, where the front can tell, returns once the caller has
    gone: before the first piece that ends the call, at no charge."""
    context = Context(request, await resources.here())
    answering = Answering(context)
    problem = await _begun(answering, gone)
    if answering.under_way:
        headers = pipeline.answer_headers(context, recorded=False)
        headers |= {**events.HEADERS, "Inframind-Receipt": str(request.call_id)}
        return Answer(200, answering, headers)
    made = pipeline.answer(context, problem, recorded=answering.recorded)
    if made.status != 200 or made.headers["Content-Type"] == events.KIND:
        return Answer(made.status, made.document, made.headers)
    facts = {
        "model": made.headers["Inframind-Model"],
        "receipt": made.headers["Inframind-Receipt"],
        "fee": amount_document(parse_ifm(made.headers["Inframind-Fee"])),
        "node": made.headers.get("Inframind-Node", ""),
        "pieces": 1,
    }
    whole = events.piece(made.document) + events.done(facts)
    return Answer(200, whole, {**made.headers, **events.HEADERS})


async def gathered(request: CallRequest) -> pipeline.CallAnswer:
    """The call's answer whole: the document, or of a streaming model the array of its pieces."""
    context = Context(replace(request, streamed=True), await resources.here())
    answering = Answering(context, gathers=True)
    problem = await _begun(answering, None)
    if answering.under_way:
        try:
            async for _ in answering:
                pass
        finally:
            await answering.aclose()
        problem = answering.problem
        context.output = b"[%b]" % b",".join(answering.pieces)
        context.answer_headers = {}
    return pipeline.answer(context, problem, recorded=answering.recorded)


async def _begun(answering: Answering, gone: Gone | None) -> Problem | None:
    """Runs the call up to its first piece. What has none by then is concluded."""
    context = answering.context
    try:
        problem = await pipeline.run(context, pipeline.ADMISSION)
        if problem is None and context.replayed is None:
            if context.version.streaming:
                stages = (answering.begin, admission.within_limits)
                problem = await _unless(gone, pipeline.run(context, stages))
                if problem is None:
                    answering.go()
                    return None
                if problem.code == "cancelled":
                    context.outcome = Outcome.REFUSED
            else:
                problem = await pipeline.run(context, pipeline.MODEL)
        await answering.conclude(context.outcome, problem)
    except asyncio.CancelledError:
        await answering.aclose()
        raise
    return answering.problem


async def _unless(gone: Gone | None, work: Coroutine[Any, Any, Problem | None]) -> Problem | None:
    """What the work comes to; ``cancelled`` where the caller goes before."""
    if gone is None:
        return await work
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        working.cancel()
    await asyncio.wait({working})
    return cancelled(charged=False) if working.cancelled() else working.result()
