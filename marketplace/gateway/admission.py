"""What stands before a call: who calls, how often, what, and what for. Plain async stages.

Each takes the call's ``Context``, adds what it found, and raises a ``Problem`` to end it.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings

from inframind.identity import meters, queries
from inframind.identity.authority import admit, require
from inframind.identity.limits import line_of
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.problem import Problem
from marketplace.catalog.queries import not_on_the_list, servable_on
from marketplace.gateway import keyed, limits
from marketplace.gateway.context import Context
from marketplace.mesh.asyncdb import connection

# What a call may take beside its deadline, to be written down, until its hold counts as lost.
HOLD_GRACE_SECONDS: Final = 30.0


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
