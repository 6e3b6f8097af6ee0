"""What a call goes through, one plain async function after the other.

Each stage takes the call's ``Context``, adds what it found, and raises a ``Problem`` to end it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any, Final
from uuid import UUID

import orjson
from django.conf import settings

from inframind.identity import meters, queries
from inframind.identity.authority import admit, require
from inframind.identity.limits import line_of
from inframind.lib import canonical
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.problem import Problem, Violation
from marketplace.catalog.queries import not_on_the_list, servable_on
from marketplace.catalog.schemas import validator_for
from marketplace.gateway import body, keyed, limits
from marketplace.gateway.batches import Row
from marketplace.gateway.committing import Entry
from marketplace.gateway.context import Context
from marketplace.gateway.links import normal
from marketplace.gateway.models import Call
from marketplace.gateway.payees import node_payee, owner_payee
from marketplace.mesh import client
from marketplace.mesh.asyncdb import connection, in_thread
from marketplace.mesh.routing import NoRoute, Route
from marketplace.mesh.tensors import BadOutput, Tensor, decode, encode

MAX_ATTEMPTS: Final = 6
# With nodes that do not even answer a connection, a caller is told within a second.
SEARCH_SECONDS: Final = 0.8
# A node that is silent this long is asked whether it lives at all.
SILENCE_SECONDS: Final = 1.5
# Bodies above this are handled beside the loop, so that they hold up nobody else's call.
HEAVY_BYTES: Final = 256 << 10
# What a call may take beside its deadline, to be written down, until its hold counts as lost.
HOLD_GRACE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2
_LOADING_RETRY_SECONDS: Final = 5

Outcome = Call.Outcome


async def authenticate(call: Context) -> None:
    """Learns who calls, before any name is looked up. 401."""
    call.caller = call.request.caller
    if call.request.bearer is not None:
        async with connection() as database:
            call.caller = await queries.authenticate_on(
                database, call.request.bearer, call.request.remote_address
            )


async def limit(call: Context) -> None:
    """Takes the call from its caller's allowance. 429."""
    if call.viewer is not None:
        policy, subject, per_minute = "wallet", call.viewer, settings.WALLET_CALLS_PER_MINUTE
    else:
        policy, per_minute = "anonymous", settings.ANONYMOUS_CALLS_PER_MINUTE
        subject = line_of(call.request.remote_address)
    call.allowance = await limits.take(
        call.resources.redis, policy=policy, subject=subject, limit=per_minute
    )
    if not call.allowance.allowed:
        raise Problem(
            "too-many-calls",
            f"More than {per_minute} calls a minute.",
            status=429,
            remedy="Wait as long as Retry-After says"
            + ("." if call.viewer else ", or call with a token, which has a higher limit."),
            retry_safe=True,
            retry_after_seconds=call.allowance.retry_after_seconds,
        )


async def resolve(call: Context) -> None:
    """Finds the version and checks that the caller may call it. 401, 403, 404, 410."""
    request, caller = call.request, call.caller
    admit(caller, "model.call", name=request.name)
    async with connection() as database:
        found = await servable_on(database, request.name, request.number, viewer=caller)
    require(
        caller,
        "model.call",
        found.kind,
        roles=found.viewer_roles,
        unless_signed_in=queries.token_required(f"{found.name} is called with a token."),
        otherwise=not_on_the_list(found.name),
    )
    if caller is None and found.fee_base_units:
        raise queries.token_required(
            f"A call of {found.name} costs {format_ifm(found.fee_base_units)}: "
            "a token says who pays."
        )
    call.servable = found


async def replay(call: Context) -> None:
    """Takes the call's idempotency key, or finds the answer that it was given before. 409, 422.

    Keys are wallets': a call without a token is made each time that it is sent.
    """
    key = call.request.idempotency_key
    if key is None or call.viewer is None:
        return
    keyed.check(key)
    request = keyed.request_digest(call.request.reference, call.request.body)
    async with connection() as database:
        found = await keyed.claim_on(
            database,
            wallet=call.viewer,
            key=key,
            request=request,
            call_id=call.request.call_id,
            seconds=call.request.deadline_seconds + HOLD_GRACE_SECONDS,
        )
    if isinstance(found, keyed.Claim):
        call.claim = found
    else:
        call.replayed = found


async def budget(call: Context) -> None:
    """Keeps to what the caller wants to spend. 402."""
    limit_base_units, fee = call.request.budget_base_units, call.version.fee_base_units
    if limit_base_units is not None and fee > limit_base_units:
        raise Problem(
            "over-budget",
            f"The call costs {format_ifm(fee)}, the budget is {format_ifm(limit_base_units)}.",
            status=402,
            remedy="Raise Inframind-Budget, or call another model.",
            extra={"price": amount_document(fee)},
        )


async def hold(call: Context) -> None:
    """Takes the call's place within the limits of its token and of that token's ancestors. 402."""
    if call.caller is None or not call.caller.meters:
        return
    async with connection() as database:
        await meters.hold_on(
            database,
            call.caller,
            call.request.call_id,
            call.version.fee_base_units,
            call.request.deadline_seconds + HOLD_GRACE_SECONDS,
        )
    call.held = True


async def fund(call: Context) -> None:
    """Sets the fee aside in the caller's purse. 402."""
    fee = call.version.fee_base_units
    if fee and call.viewer is not None:
        call.funds = await call.resources.purses.take(
            call.viewer, fee, call.request.deadline_seconds + HOLD_GRACE_SECONDS
        )


async def read_input(call: Context) -> None:
    """Reads the body and holds it against the input schema. 413, 422."""
    call.outcome = Outcome.INVALID_INPUT
    await _maybe_aside(len(call.request.body), _read_input, call)
    call.admitted_seconds = call.elapsed


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


async def check_output(call: Context) -> None:
    """Makes the document and holds it against the output schema. 502."""
    call.outcome = Outcome.INVALID_OUTPUT
    size = sum(tensor.data.nbytes for tensor in call.answer_tensors)
    await _maybe_aside(size, _check_output, call)
    call.outcome = Outcome.SERVED


async def record(call: Context, problem: Problem | None, answer: bytes | None) -> None:
    """Writes the one row of the call, before anything of it leaves; ``answer``: sealed, to keep
    under the call's idempotency key. 503."""
    version, caller = call.version, call.caller
    served = call.outcome is Outcome.SERVED
    payout = normal(owner_payee(version.payout_address, version.owner))
    operator = normal(node_payee(call.route.operator)) if call.route else ""
    linked = False
    if call.viewer is not None:
        paid = (version.owner, payout, operator)
        linked = await call.resources.links.linked(call.viewer, paid)
    row = Row(
        call_id=call.request.call_id,
        version_id=version.version_id,
        model=f"{version.name}@{version.number}",
        cid=version.cid,
        wallet=call.viewer,
        token_id=caller.token_id if caller else None,
        node_id=call.route.node_id if call.route else None,
        node_name=call.route.node_name if call.route else "",
        outcome=call.outcome.value,
        problem_code=problem.code if problem else "",
        attempts=call.attempts,
        fee_base_units=version.fee_base_units if served else 0,
        latency_us=call.latency_us,
        node_latency_us=round(call.node_seconds * 1_000_000),
        input_digest=call.input_digest or _digest_of_bytes(call.request.body),
        output_digest=call.output_digest if served else "",
        payout_address=payout,
        operator_address=operator,
        linked=linked,
    )
    await call.resources.recorder.record(
        Entry(
            row=row,
            lease_id=call.funds.lease_id if call.funds else None,
            meters=caller.meters if caller and call.held else (),
            claim=call.claim,
            answer=answer if served else None,
        )
    )


def _digest_of_bytes(octets: bytes) -> str:
    """Stands for an input that has no canonical form, because it is not JSON."""
    return f"sha256:{hashlib.sha256(octets).hexdigest()}"


async def _maybe_aside(size_bytes: int, work: Any, call: Context) -> None:
    if size_bytes > HEAVY_BYTES:
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
        call.input_digest = canonical.digest(document)
    except ValueError as error:
        raise Problem(
            "invalid-input",
            str(error),
            status=422,
            violations=(Violation("", str(error)),),
            remedy="Send such numbers as text.",
        ) from None
    call.tensors = encode(document, call.inputs, max_batch_size=version.max_batch_size)


def _check_output(call: Context) -> None:
    version = call.version
    try:
        document = decode(call.answer_tensors, call.outputs, max_batch_size=version.max_batch_size)
        call.output_digest = canonical.digest(document)
    except (BadOutput, ValueError, TypeError) as error:
        raise _invalid_output(str(error), ()) from None
    validator = validator_for(f"{version.cid}/output", version.output_schema)
    violations = validator.violations(document)
    if violations:
        raise _invalid_output("It breaks the model's output schema.", violations)
    call.output = orjson.dumps(document)


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


def _invalid_output(detail: str, violations: tuple[Violation, ...]) -> Problem:
    return Problem(
        "invalid-output",
        f"The model's output cannot be delivered. {detail}",
        status=502,
        violations=violations,
        remedy="This lies with the model; tell its owner, or call another version.",
        retry_safe=True,
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
