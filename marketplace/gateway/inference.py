"""Running the model: which node, how long to wait for it, and when to turn to another."""

from __future__ import annotations

import asyncio
import time
from typing import Final
from uuid import UUID

from inframind.lib.problem import Problem
from marketplace.gateway.context import Context, Outcome
from marketplace.mesh import client
from marketplace.mesh.routing import NoRoute, Route
from marketplace.mesh.tensors import Tensor

MAX_ATTEMPTS: Final = 6
# With nodes that do not even answer a connection, a caller is told within a second.
SEARCH_SECONDS: Final = 0.8
# A node that is silent this long is asked whether it lives at all.
SILENCE_SECONDS: Final = 1.5
_RETRY_SECONDS: Final = 2
_LOADING_RETRY_SECONDS: Final = 5


async def infer(call: Context) -> None:
    """Has a node run the model, another one when the first is dead. 502, 503, 504."""
    call.outcome = Outcome.NO_NODE
    router, version_id = call.resources.router, call.version.version_id
    failures: dict[UUID, int] = {}
    lost_seconds = 0.0
    while call.attempts < MAX_ATTEMPTS and lost_seconds < SEARCH_SECONDS:
        try:
            routes = await router.candidates(version_id, wait_seconds=call.remaining)
        except NoRoute as error:
            raise _no_node(str(error), loading=error.loading) from None
        routes = [route for route in routes if failures.get(route.node_id, 0) < 2]
        if not routes:
            break
        route = min(routes, key=lambda each: failures.get(each.node_id, 0))
        call.attempts += 1
        started = time.perf_counter()
        try:
            with router.busy(route):
                call.answer_tensors = await _attempt(call, route, SEARCH_SECONDS - lost_seconds)
        except client.NodeUnreachable as error:
            # A connection kept open can have died long ago: that node gets one more chance.
            broken = isinstance(error, client.ConnectionLost)
            failures[route.node_id] = failures.get(route.node_id, 0) + (1 if broken else 2)
            lost_seconds += 0.0 if broken else time.perf_counter() - started
            router.mark_failed(route.node_id)
        except client.NotLoaded:
            await router.mark_lost(version_id, route.node_id)
        except client.NodeTimeout:
            call.route, call.outcome = route, Outcome.TIMED_OUT
            raise _timed_out(call) from None
        except client.ModelFailed as error:
            call.route, call.outcome = route, Outcome.MODEL_FAILED
            if isinstance(error, client.ModelCrashed):
                await router.mark_lost(version_id, route.node_id)
            raise Problem(
                "model-failed",
                f"The model gave an error: {error}",
                status=502,
                remedy="Check the input; if it is right, tell the model's owner.",
                retry_safe=True,
            ) from None
        else:
            call.route = route
            call.node_seconds = time.perf_counter() - started
            router.mark_well(route.node_id)
            return
        if call.elapsed >= call.request.deadline_seconds:
            call.outcome = Outcome.TIMED_OUT
            raise _timed_out(call)
    raise _no_node("No node that could run the model answers.", loading=False)


async def _attempt(call: Context, route: Route, connect_seconds: float) -> list[Tensor]:
    http = call.resources.http
    work = asyncio.ensure_future(
        client.infer(
            http,
            route.endpoint,
            route.triton_model,
            call.tensors,
            timeout_seconds=call.remaining,
            connect_seconds=max(0.05, min(client.CONNECT_SECONDS, connect_seconds)),
        )
    )
    try:
        silent = 0
        while not (await asyncio.wait({work}, timeout=SILENCE_SECONDS))[0]:
            silent = 0 if await client.answers_at_all(http, route.endpoint) else silent + 1
            if silent == 2 and not work.done():
                raise client.NodeUnreachable("The node went silent.")
        return work.result()
    finally:
        work.cancel()


def _timed_out(call: Context) -> Problem:
    return Problem(
        "timed-out",
        f"The model did not answer within {call.request.deadline_seconds:g} s.",
        status=504,
        remedy="Send a smaller input, or try again later.",
        retry_safe=True,
    )


def _no_node(detail: str, *, loading: bool) -> Problem:
    return Problem(
        "model-loading" if loading else "no-node",
        detail,
        status=503,
        remedy="Try again as Retry-After says.",
        retry_safe=True,
        retry_after_seconds=_LOADING_RETRY_SECONDS if loading else _RETRY_SECONDS,
    )
