"""What stands before a call: who calls, how often, what, and what for. Plain async stages.

Each takes the call's ``Context``, adds what it found, and raises a ``Problem`` to end it.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings

from inframind.identity import meters, queries
from inframind.identity.authority import admit, require
from inframind.identity.limits import line_of
from inframind.lib.access import holds
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.problem import Problem
from marketplace.catalog.queries import not_on_the_list
from marketplace.gateway import keyed, limits
from marketplace.gateway.context import Context
from marketplace.mesh.asyncdb import connection

# What a call may take beside its deadline, to be written down, until its hold counts as lost.
HOLD_GRACE_SECONDS: Final = 30.0


async def authenticate(call: Context) -> None:
    """Learns who calls, before any name is looked up. 401."""
    request = call.request
    call.caller = request.caller
    if request.bearer is not None:
        call.caller = await call.resources.knowledge.caller(request.bearer, request.remote_address)


async def limit(call: Context) -> None:
    """Turns away who is known to have no call left; nothing is counted yet. 429."""
    caller = call.caller
    if caller is None:
        call.rules = limits.rules(("anonymous",), (settings.ANONYMOUS_CALLS_PER_MINUTE,))
        call.subjects = (f"anonymous:{line_of(call.request.remote_address)}",)
    elif settings.TOKEN_CALLS_PER_MINUTE and caller.token_id is not None:
        call.rules = limits.rules(
            ("wallet", "token"),
            (settings.WALLET_CALLS_PER_MINUTE, settings.TOKEN_CALLS_PER_MINUTE),
        )
        call.subjects = (f"wallet:{caller.address}", f"token:{caller.token_id.hex}")
    else:
        call.rules = limits.rules(("wallet",), (settings.WALLET_CALLS_PER_MINUTE,))
        call.subjects = (f"wallet:{caller.address}",)
    call.allowance = call.resources.limiter.refused(call.rules, call.subjects)
    if call.allowance is not None:
        raise _too_many(call, call.allowance)


async def count(call: Context) -> None:
    """Has the call counted beside what follows; ``within_limits`` hears what came of it. 429.

    After ``resolve``: the limit of a model is told to those alone who may call it.
    """
    if settings.MODEL_CALLS_PER_MINUTE and call.rules is not None:
        call.rules = limits.rules(
            (*call.rules.policies, "model"),
            (*call.rules.limits, settings.MODEL_CALLS_PER_MINUTE),
        )
        call.subjects = (*call.subjects, f"model:{call.version.name}")
        call.allowance = call.resources.limiter.refused(call.rules, call.subjects)
    _begin_counting(call)


async def within_limits(call: Context) -> None:
    """Waits until the call is counted, also one that ended before ``count``. 429.

    Comes before anything that lasts: a kept key, a meter's hold, a row, the answer's first byte.
    """
    if call.rules is None:
        return
    if call.counting is None and call.allowance is None:
        _begin_counting(call)
    if call.allowance is None and call.counting is not None:
        call.allowance = await call.counting
    if call.allowance is not None and not call.allowance.allowed:
        raise _too_many(call, call.allowance)


async def over_the_limit(call: Context) -> Problem | None:
    """``within_limits``, for who wants the problem rather than have it raised."""
    try:
        await within_limits(call)
    except Problem as refused:
        return refused
    return None


def _begin_counting(call: Context) -> None:
    if call.rules is not None and call.allowance is None:
        call.counting = call.resources.limiter.take(call.rules, call.subjects)
        if not call.counting.done():
            return
        call.allowance = call.counting.result()
    if call.allowance is not None and not call.allowance.allowed:
        raise _too_many(call, call.allowance)


def _too_many(call: Context, allowance: limits.Allowance) -> Problem:
    policy = allowance.rules.policies[allowance.emptiest]
    per_minute = allowance.rules.limits[allowance.emptiest]
    of_what = {
        "token": " with this token",
        "model": f" of {call.request.name}, by all callers together",
    }.get(policy, "")
    return Problem(
        "too-many-calls",
        f"More than {per_minute} calls a minute{of_what}.",
        status=429,
        remedy="Wait as long as Retry-After says"
        + (", or call with a token, which has a higher limit." if policy == "anonymous" else "."),
        retry_safe=True,
        retry_after_seconds=allowance.retry_after_seconds,
    )


async def resolve(call: Context) -> None:
    """Finds the version and checks that the caller may call it. 401, 403, 404, 410."""
    request, caller = call.request, call.caller
    admit(caller, "model.call", name=request.name)
    knowledge = call.resources.knowledge
    found = await knowledge.version(request.name, request.number, caller)
    roles = found.viewer_roles if caller is None else caller.roles | found.viewer_roles
    if not holds("model.call", found.kind, roles) or (caller is None and found.fee_base_units):
        found = await knowledge.version_anew(request.name, request.number, caller)
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
            f"A call of {found.name} costs {found.fee_text}: a token says who pays."
        )
    call.servable = found
    if found.streaming and not call.request.streamed:
        raise _stream_only(found.name)


def _stream_only(name: str) -> Problem:
    return Problem(
        "stream-only",
        f"{name} answers in pieces, and this call asks for one whole answer.",
        status=406,
        remedy="Send it to /inference/v1 with the header Accept: text/event-stream, or use "
        "`infra call --stream`.",
    )


async def replay(call: Context) -> None:
    """Takes the call's idempotency key, or finds the answer that it was given before. 409, 422.

    Keys are wallets': a call without a token is made each time that it is sent.
    """
    key = call.request.idempotency_key
    if key is None or call.viewer is None:
        return
    keyed.check(key)
    await within_limits(call)
    request = keyed.request_digest(call.request.asked, call.request.body)
    async with connection() as database:
        found = await keyed.claim_on(
            database,
            wallet=call.viewer,
            key=key,
            request=request,
            call_id=call.request.call_id,
            seconds=call.lasts_seconds + HOLD_GRACE_SECONDS,
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
    await within_limits(call)
    async with connection() as database:
        await meters.hold_on(
            database,
            call.caller,
            call.request.call_id,
            call.version.fee_base_units,
            call.lasts_seconds + HOLD_GRACE_SECONDS,
        )
    call.held = True


async def fund(call: Context) -> None:
    """Sets the fee aside in the caller's purse. 402."""
    fee = call.version.fee_base_units
    if fee and call.viewer is not None:
        call.funds = await call.resources.purses.take(
            call.viewer, fee, call.lasts_seconds + HOLD_GRACE_SECONDS
        )
