"""The one way a call is made, whichever front it came through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Final

import orjson
import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem
from marketplace.catalog.queries import Servable
from marketplace.gateway import recorder, resources, stages
from marketplace.gateway.context import CallRequest, Context

__all__ = ["STAGES", "CallAnswer", "CallRequest", "call"]

log = structlog.get_logger(__name__)

Stage = Callable[[Context], Awaitable[None]]
STAGES: Final[tuple[Stage, ...]] = (
    stages.authenticate,
    stages.limit,
    stages.resolve,
    stages.budget,
    stages.hold,
    stages.read_input,
    stages.infer,
    stages.check_output,
)


@dataclass(frozen=True)
class CallAnswer:
    """What goes back: the output document, or a problem document from status 400 up."""

    status: int
    document: bytes = field(repr=False)
    headers: dict[str, str]


async def call(request: CallRequest) -> CallAnswer:
    """Runs the stages and writes the call's row; never raises for what a caller can cause."""
    context = Context(request, await resources.here())
    problem: Problem | None = None
    try:
        for stage in STAGES:
            await stage(context)
    except Problem as refused:
        problem = refused
    except (psycopg.OperationalError, PoolTimeout) as error:
        log.warning("no database", call=str(request.call_id), reason=type(error).__name__)
        problem = recorder.no_database()
    except Exception:
        log.exception("call broke", call=str(request.call_id))
        problem = Problem(
            "internal-error",
            "Something failed on our side; it is in our log under the call's id.",
            status=500,
            remedy="Try again; if it stays, tell us the id.",
            retry_safe=True,
        )
    # A call without a version is a stranger's guess: there is nothing to hold a row against.
    recorded = False
    if context.servable is not None:
        try:
            await stages.record(context, problem)
            recorded = True
        except Problem as refused:
            problem = refused
    headers = _headers(context, recorded=recorded)
    if problem is None:
        return CallAnswer(200, context.output, headers)
    document = problem.as_document(instance=f"urn:uuid:{request.call_id}")
    return CallAnswer(
        problem.status,
        orjson.dumps(document),
        {**headers, **problem.headers, "Content-Type": "application/problem+json"},
    )


def _headers(context: Context, *, recorded: bool) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if context.allowance is not None:
        headers |= context.allowance.headers()
    version = context.servable
    if version is None:
        return headers
    headers["Inframind-Model"] = f"{version.name}@{version.number}"
    if recorded:
        headers["Inframind-Receipt"] = str(context.request.call_id)
        served = context.outcome is stages.Outcome.SERVED
        headers["Inframind-Fee"] = format_ifm(version.fee_base_units if served else 0)
    if context.route is not None:
        headers["Inframind-Node"] = context.route.node_name
    headers["Server-Timing"] = ", ".join(
        f"{name};dur={seconds * 1000:.2f}"
        for name, seconds in (
            ("admit", context.admitted_seconds),
            ("node", context.node_seconds),
            # The row's figure where there is a row: one call has one latency.
            ("total", context.latency_us / 1_000_000 if recorded else context.elapsed),
        )
    )
    return headers | _lifecycle_headers(version)


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
