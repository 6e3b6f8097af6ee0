"""The one way a call is made, whichever front it came through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Final

import orjson
import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from inframind.lib.amounts import format_ifm
from inframind.lib.problem import CONTENT_TYPE, Problem, for_protocol
from marketplace.catalog.queries import Servable
from marketplace.gateway import (
    admission,
    body,
    contract,
    inference,
    keyed,
    problems,
    recorder,
    recording,
    resources,
)
from marketplace.gateway.context import CallRequest, Context, Outcome
from marketplace.gateway.metrics import CALLS
from marketplace.mesh.asyncdb import connection, in_thread

__all__ = ["STAGES", "CallAnswer", "CallRequest", "call"]

log = structlog.get_logger(__name__)

# Of the call that is answered now, not of the one that was served.
_OF_THE_MOMENT: Final = frozenset({"RateLimit", "RateLimit-Policy"})

_FREE: Final = format_ifm(0)

Stage = Callable[[Context], Awaitable[None]]
# What stands before every call, whatever is called and however it is answered.
ADMISSION: Final[tuple[Stage, ...]] = (
    admission.authenticate,
    admission.limit,
    admission.resolve,
    admission.count,
    admission.replay,
    admission.budget,
    inference.shed,
    admission.hold,
    admission.fund,
)
MODEL: Final[tuple[Stage, ...]] = (
    contract.read_input,
    inference.infer,
)
STAGES: Final = ADMISSION + MODEL


@dataclass(slots=True, eq=False)
class CallAnswer:
    """What goes back: the output document, or a problem document from status 400 up."""

    status: int
    document: bytes = field(repr=False)
    headers: dict[str, str]


async def call(request: CallRequest) -> CallAnswer:
    """Runs the stages and writes the call's row; never raises for what a caller can cause."""
    context = Context(request, await resources.here())
    try:
        problem, recorded = await conclude(context, await run(context, STAGES))
    finally:
        # Of a call that was cut off; one that was concluded has nothing left.
        settle(context, None)
    return answer(context, problem, recorded=recorded)


async def conclude(context: Context, problem: Problem | None) -> tuple[Problem | None, bool]:
    """Writes the call's row, and spends or gives back what was set aside for it.

    Returns the problem that the call ends with, and whether it has a row.
    """
    try:
        over_the_limit = await admission.over_the_limit(context)
        if over_the_limit is not None:
            # Answered as a guess is, whatever was called: no row, no receipt, nothing spent.
            problem, context.servable, context.outcome = over_the_limit, None, Outcome.REFUSED
        # A call without a version is a stranger's guess: there is nothing to hold a row against.
        recorded = False
        if context.servable is not None and context.replayed is None:
            context.latency_us = round(context.elapsed * 1_000_000)
            try:
                sealed = None if context.claim is None else await _sealed(context)
                await recording.record(context, problem, sealed)
                recorded = True
            except recorder.FundsGone as refused:
                # Its row is there, and says that it was refused.
                problem, recorded = refused, True
                context.outcome = Outcome.REFUSED
                if context.funds is not None and refused.lease_gone:
                    context.funds.drop()
            except Problem as refused:
                problem = refused
                await _free_key(context, refused)
            except (psycopg.OperationalError, PoolTimeout):
                problem = recorder.no_database()
                await _free_key(context, problem)
        if recorded:
            CALLS.ended(context.outcome, context.latency_us)
        return problem, recorded
    finally:
        settle(context, problem)


def answer(context: Context, problem: Problem | None, *, recorded: bool) -> CallAnswer:
    """What goes back for a call that has been concluded."""
    if problem is None and context.replayed is not None:
        return _again(context, context.replayed)
    headers = answer_headers(context, recorded=recorded)
    if problem is None:
        return CallAnswer(200, context.output, headers)
    call_id = context.request.call_id
    if problem.charged is None:
        headers["Inframind-Receipt"] = str(call_id)
    if context.request.tensors:
        problem = for_protocol(problem)
    return CallAnswer(
        problem.status,
        orjson.dumps(problem.as_document(instance=f"urn:uuid:{call_id}")),
        {**headers, **problem.headers, "Content-Type": CONTENT_TYPE},
    )


async def run(context: Context, stages: Sequence[Stage]) -> Problem | None:
    """Runs the stages until one ends the call; returns the problem that did."""
    try:
        for stage in stages:
            await stage(context)
            if context.replayed is not None:
                break
    except Problem as refused:
        return refused
    except (psycopg.OperationalError, PoolTimeout) as error:
        call_id = str(context.request.call_id)
        log.warning("no database", call=call_id, reason=type(error).__name__)
        return recorder.no_database()
    except Exception:
        log.exception("call broke", call=str(context.request.call_id))
        return problems.broken()
    return None


def settle(context: Context, problem: Problem | None) -> None:
    """What was set aside for the call is spent, or another's again."""
    if context.funds is None:
        return
    if context.outcome is not Outcome.SERVED or (problem is not None and problem.charged is False):
        context.funds.give_back()
    else:
        context.funds.keep()


async def _sealed(context: Context) -> bytes | None:
    """The answer as it is kept under the call's idempotency key, where there is one to keep."""
    if context.claim is None or context.outcome is not Outcome.SERVED:
        return None
    headers = {
        name: value
        for name, value in answer_headers(context, recorded=True).items()
        if name not in _OF_THE_MOMENT
    }
    if len(context.output) > body.HEAVY_BYTES:
        return await in_thread(context.claim.seal, context.output, headers)
    return context.claim.seal(context.output, headers)


async def _free_key(context: Context, problem: Problem) -> None:
    """Lets the key of a call that was not written down be used again at once, where that can be."""
    if context.claim is None or problem.charged is None:
        return
    try:
        async with connection() as database:
            await keyed.end_on(database, [keyed.Ending(context.claim, None)])
    except (psycopg.OperationalError, PoolTimeout):
        log.warning("key left to expire", call=str(context.request.call_id))


def _again(context: Context, stored: keyed.StoredAnswer) -> CallAnswer:
    """What a served call was answered, given once more: with the same receipt, at no charge."""
    allowance = context.allowance.headers() if context.allowance else {}
    headers = {**stored.headers, **allowance, "Idempotency-Replayed": "true"}
    return CallAnswer(200, stored.document, headers)


def answer_headers(context: Context, *, recorded: bool) -> dict[str, str]:
    """What the headers of the call's answer say of it."""
    headers = {"Content-Type": "application/json"}
    if context.answer_headers:
        headers |= context.answer_headers
    if context.allowance is not None:
        headers |= context.allowance.headers()
    version = context.servable
    if version is None:
        return headers
    headers["Inframind-Model"] = version.reference
    if recorded:
        headers["Inframind-Receipt"] = str(context.request.call_id)
        served = context.outcome is Outcome.SERVED
        headers["Inframind-Fee"] = version.fee_text if served else _FREE
    if context.route is not None:
        headers["Inframind-Node"] = context.route.node_name
    # The row's figure where there is a row: one call has one latency.
    total_ms = context.latency_us / 1000 if recorded else context.elapsed * 1000
    headers["Server-Timing"] = (
        f"admit;dur={context.admitted_seconds * 1000:.2f}, "
        f"node;dur={context.node_seconds * 1000:.2f}, total;dur={total_ms:.2f}"
    )
    if version.deprecated_at or version.sunset_at or version.successor_number:
        headers |= _lifecycle_headers(version)
    return headers


def _lifecycle_headers(version: Servable) -> dict[str, str]:
    """RFC 9745 ``Deprecation``, RFC 8594 ``Sunset`` and where to go instead."""
    headers: dict[str, str] = {}
    if version.deprecated_at is not None:
        headers["Deprecation"] = f"@{int(version.deprecated_at.timestamp())}"
    if version.sunset_at is not None:
        headers["Sunset"] = format_datetime(version.sunset_at, usegmt=True)
    if version.successor_number is not None:
        successor = version.successor_number
        target = successor if "@" in successor else f"{version.name}@{successor}"
        url = f"{settings.SITE_URL}/inference/v1/{target}"
        headers["Link"] = f'<{url}>; rel="successor-version"'
    return headers
