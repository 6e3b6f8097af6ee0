"""Running the model: which node, how long to wait for it, and when to turn to another."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from inframind.lib.problem import Problem
from marketplace.gateway import contract
from marketplace.gateway.context import Context, Outcome
from marketplace.gateway.hedging import Answered, ask
from marketplace.gateway.problems import model_failed
from marketplace.mesh import client
from marketplace.mesh.load import LOST, REFUSED
from marketplace.mesh.routing import Copy, NoRoute, Overloaded

Result = TypeVar("Result")
# Given a copy, its place taken, and the seconds that a connection may take. One that returns has
# taken the place over; one that raises a ``client.NodeError`` is followed by one on another node.
Attempt = Callable[[Context, Copy, float], Awaitable[Result]]

MAX_ATTEMPTS: Final = 6
# A node that lives but is too busy to take a connection is given so long, when no other is left.
PATIENCE_SECONDS: Final = 6.0
# Waiting for a busy node may take this share of what is left of the deadline.
QUEUE_SHARE: Final = 0.5
# Of the time for a connection: it was not refused, nobody came.
_LATE_SHARE: Final = 0.9
_PATIENT_FACTOR: Final = 3.0
_RETRY_SECONDS: Final = 2
_LOADING_RETRY_SECONDS: Final = 5


@dataclass(slots=True)
class Trouble:
    """What went wrong with a call so far."""

    avoid: set[UUID] = field(default_factory=set)
    again: set[UUID] = field(default_factory=set)  # of those, who may be asked once more
    lost: set[UUID] = field(default_factory=set)  # to whom a connection broke
    began: float = field(default_factory=time.monotonic)
    connect_seconds: float = client.CONNECT_SECONDS


async def shed(call: Context) -> None:
    """Turns a call away that would wait too long, before its fee is set aside. 503."""
    version = call.version
    try:
        call.resources.router.shed(version.version_id, paid=version.fee_base_units > 0)
    except Overloaded as error:
        raise _overloaded(error) from None


async def infer(call: Context) -> None:
    """Has a node run the model and holds the answer against the contract; another node where the
    first is dead, or gave an answer that nobody can use. 502, 503, 504."""
    free = not call.version.fee_base_units
    attempt = _hedged if free and not call.request.tensors else _alone
    answered = await on_a_node(call, attempt)
    try:
        await _check(call, answered)
    except Problem as problem:
        await _elsewhere(call, answered, attempt, problem)
    except BaseException:
        call.resources.router.gave_up(answered.copy)
        raise
    else:
        call.resources.router.served(answered.copy, answered.seconds)


async def on_a_node(call: Context, attempt: Attempt[Result]) -> Result:
    """Tries one node after the other until an attempt comes through; whose place at its copy is
    then for the caller to give back (``Router.served``, ``gave_up``). 502, 503, 504."""
    call.outcome = Outcome.NO_NODE
    router, version = call.resources.router, call.version
    version_id, paid = version.version_id, version.fee_base_units > 0
    copy = router.pick(version_id, paid=paid)
    trouble = None
    while True:
        if copy is None:
            copy = await _take(call, trouble)
        call.attempts += 1
        sent_at = time.monotonic()
        try:
            return await attempt(
                call, copy, client.CONNECT_SECONDS if trouble is None else trouble.connect_seconds
            )
        except client.NodeError as error:
            trouble = trouble or Trouble()
            await _failed(call, copy, error, sent_at, trouble)
        except BaseException:
            router.gave_up(copy)
            raise
        copy = router.pick(version_id, paid=paid, avoid=trouble.avoid)


async def _hedged(call: Context, copy: Copy, connect_seconds: float) -> Answered:
    return await call.resources.hedges.infer(call, copy, connect_seconds)


async def _alone(call: Context, copy: Copy, connect_seconds: float) -> Answered:
    sent_at = time.monotonic()
    incoming = await ask(call, copy, connect_seconds)
    return Answered(copy, incoming, time.monotonic() - sent_at)


async def _check(call: Context, answered: Answered) -> None:
    call.route, call.incoming = answered.copy.route, answered.incoming
    call.node_seconds = answered.seconds
    await contract.check_output(call)


async def _elsewhere(
    call: Context, first: Answered, attempt: Attempt[Answered], problem: Problem
) -> None:
    """Asks one other node after an answer that breaks the contract: only where both give such is
    it the model's fault. Raises the ``Problem`` that it ends with."""
    router, version_id = call.resources.router, call.version.version_id
    second = None
    if problem.code == "invalid-output" and not router.is_to_blame(version_id):
        paid = call.version.fee_base_units > 0
        second = router.pick(version_id, paid=paid, avoid=(first.copy.route.node_id,))
    if second is not None and not router.retries.take(time.monotonic()):
        router.gave_up(second)
        second = None
    if second is None:
        router.gave_up(first.copy)
        raise problem
    outcome = call.outcome
    call.attempts += 1
    try:
        answered = await attempt(call, second, client.CONNECT_SECONDS)
    except client.NodeError:
        router.gave_up(second)
        router.gave_up(first.copy)
        call.outcome = outcome
        raise problem from None
    except BaseException:
        router.gave_up(second)
        router.gave_up(first.copy)
        raise
    try:
        await _check(call, answered)
    except BaseException as again:
        router.gave_up(answered.copy)
        router.gave_up(first.copy)
        if isinstance(again, Problem) and again.code == "invalid-output":
            router.blame(version_id)
        raise
    router.served(answered.copy, answered.seconds)
    router.spoiled(first.copy, problem.detail)
    call.missed.append(first.copy.route.node_id)


async def _take(call: Context, trouble: Trouble | None) -> Copy:
    router, version = call.resources.router, call.version
    while True:
        remaining = call.remaining
        try:
            return await router.take(
                version.version_id,
                paid=version.fee_base_units > 0,
                avoid=trouble.avoid if trouble else (),
                wait_seconds=0.0 if trouble and trouble.again else remaining,
                queue_seconds=remaining * QUEUE_SHARE,
            )
        except Overloaded as error:
            call.outcome = Outcome.REFUSED
            raise _overloaded(error) from None
        except NoRoute as error:
            if trouble is None or not trouble.again:
                raise _no_node(str(error), loading=error.loading) from None
            # Slow is not dead: those who may still come are asked again, with more patience.
            trouble.avoid -= trouble.again
            trouble.again.clear()
            trouble.connect_seconds = min(trouble.connect_seconds * _PATIENT_FACTOR, remaining)


async def _failed(
    call: Context, copy: Copy, error: client.NodeError, sent_at: float, trouble: Trouble
) -> None:
    """Notes what became of an attempt. Raises a ``Problem`` where another would not help."""
    router, route, reason = call.resources.router, copy.route, str(error)
    node_id, version_id = route.node_id, call.version.version_id
    if isinstance(error, client.NodeTimeout):
        router.gave_up(copy, waited=time.monotonic() - sent_at)
        call.route, call.outcome = route, Outcome.TIMED_OUT
        raise _timed_out(call) from None
    if isinstance(error, client.ModelFailed):
        router.gave_up(copy)
        call.route, call.outcome = route, Outcome.MODEL_FAILED
        if isinstance(error, client.ModelCrashed):
            await router.mark_lost(version_id, node_id)
        raise model_failed(reason) from None
    if isinstance(error, client.NotLoaded):
        router.gave_up(copy)
        await router.mark_lost(version_id, node_id)
    else:
        _unanswered(call, copy, error, sent_at, trouble)
    if call.elapsed >= call.request.deadline_seconds:
        call.outcome = Outcome.TIMED_OUT
        raise _timed_out(call)
    if call.attempts >= MAX_ATTEMPTS:
        raise _no_node("No node that could run the model answers.", loading=False)


def _unanswered(
    call: Context, copy: Copy, error: client.NodeError, sent_at: float, trouble: Trouble
) -> None:
    router, node_id, reason = call.resources.router, copy.route.node_id, str(error)
    now = time.monotonic()
    if node_id not in call.missed:
        call.missed.append(node_id)
    trouble.avoid.add(node_id)
    if isinstance(error, client.NotConnected):
        late = now - sent_at >= trouble.connect_seconds * _LATE_SHARE
        router.gave_up(copy, strike=LOST if late else REFUSED, reason=reason, sent_at=sent_at)
        if late and now - trouble.began < PATIENCE_SECONDS and not copy.route.doubtful:
            trouble.again.add(node_id)
        # The node has seen nothing of the call: that it goes to another is not a second time.
        return
    if isinstance(error, client.ConnectionLost):
        router.gave_up(copy, strike=LOST, reason=reason, sent_at=sent_at)
        # One that was kept open can have died long ago: a fresh one may be well.
        if node_id not in trouble.lost:
            trouble.lost.add(node_id)
            trouble.again.add(node_id)
    else:
        router.gave_up(copy, strike=REFUSED, reason=reason, sent_at=sent_at)
    if not router.retries.take(now):
        raise _no_node(
            "The node was lost under the call, and too many calls had to be sent twice just now.",
            loading=False,
        )


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


def _overloaded(error: Overloaded) -> Problem:
    return Problem(
        "overloaded",
        str(error),
        status=503,
        remedy="Try again as Retry-After says.",
        retry_safe=True,
        retry_after_seconds=error.retry_after_seconds,
    )
