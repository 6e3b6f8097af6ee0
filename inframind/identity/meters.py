"""Limits of tokens, exact under concurrency: a call is held against them first, then settled.

A hold takes its place on every meter of the token and of its ancestors, or on none; settling turns
it into use, or gives it back. A hold that nobody settles ends at its own time. Whoever asks or
settles locks the meters first, in the order of their ids, and looks in a statement of its own
after that: a statement sees what was committed when it began, not when its lock was given.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from inframind.identity.caller import Caller
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem

_LOCK: Final = """
    SELECT id FROM identity_meter WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE
"""
_HOLD: Final = """
    WITH lost AS (
        DELETE FROM identity_meterhold
        WHERE meter_id = ANY(%(ids)s) AND expires_at <= statement_timestamp()
    ), held AS (
        SELECT meter_id, count(*) AS calls, sum(fee_base_units) AS fees FROM identity_meterhold
        WHERE meter_id = ANY(%(ids)s) AND expires_at > statement_timestamp()
        GROUP BY meter_id
    ), asked AS (
        SELECT meter.id, calls_limit, calls_used, coalesce(held.calls, 0) AS calls_held,
               spend_limit_base_units, spent_base_units, coalesce(held.fees, 0) AS fees_held
        FROM identity_meter meter LEFT JOIN held ON held.meter_id = meter.id
        WHERE meter.id = ANY(%(ids)s)
    ), made AS (
        INSERT INTO identity_meterhold (meter_id, call_id, fee_base_units, expires_at)
        SELECT id, %(call_id)s, %(fee)s,
               statement_timestamp() + make_interval(secs => %(ttl_seconds)s)
        FROM asked WHERE NOT EXISTS (
            SELECT FROM asked
            WHERE calls_used + calls_held + 1 > calls_limit
               OR spent_base_units + fees_held + %(fee)s > spend_limit_base_units
        ) AND (SELECT count(*) FROM asked) = cardinality(%(ids)s)
        RETURNING meter_id
    )
    SELECT asked.*, (SELECT count(*) FROM made) FROM asked
"""
_SETTLE: Final = """
    WITH ended AS (
        DELETE FROM identity_meterhold WHERE meter_id = ANY(%(ids)s) AND call_id = %(call_id)s
        RETURNING meter_id, expires_at > statement_timestamp() AS live
    )
    UPDATE identity_meter meter
    SET calls_used = calls_used + 1, spent_base_units = spent_base_units + %(fee)s
    FROM ended WHERE meter.id = ended.meter_id AND ended.live AND %(served)s
"""


class _Asked(NamedTuple):
    meter_id: UUID
    calls_limit: int | None
    calls_used: int
    calls_held: int
    spend_limit_base_units: Any
    spent_base_units: Any
    fees_held: Any
    held_meters: int


async def hold_on(
    database: AsyncConnection,
    caller: Caller,
    call_id: UUID,
    fee_base_units: int,
    ttl_seconds: float,
) -> None:
    """Takes a place for one call on every meter of its caller, for ``ttl_seconds`` at most.

    Raises a 402 ``Problem`` ``token-limit-reached`` when one of them has none left; then none is
    held. In one round trip.
    """
    parameters = {
        "ids": list(caller.meters),
        "call_id": call_id,
        "fee": fee_base_units,
        "ttl_seconds": float(ttl_seconds),
    }
    async with database.pipeline(), database.transaction():
        # A hold need not survive the database's own fall: its call could not be settled either.
        await database.execute("SET LOCAL synchronous_commit TO off")
        await database.execute(_LOCK, parameters)
        cursor = await database.execute(_HOLD, parameters)
    asked = [_Asked(*row) for row in await cursor.fetchall()]
    if asked and asked[0].held_meters == len(caller.meters):
        return
    for each in sorted(asked, key=lambda meter: caller.meters.index(meter.meter_id)):
        own = caller.narrowing_id in (None, each.meter_id)
        whose = "this token" if own else "a token that this one comes from"
        calls_left = each.calls_limit is None or (
            each.calls_used + each.calls_held < each.calls_limit
        )
        if not calls_left:
            raise _calls_used_up(each, whose)
        limit = each.spend_limit_base_units
        if limit is not None and each.spent_base_units + each.fees_held + fee_base_units > limit:
            raise _spend_used_up(each, whose, fee_base_units)
    raise Problem(
        "invalid-token",
        "The token cannot be used: its limits are no longer known.",
        status=401,
        remedy="Get a fresh token from the registry.",
        headers={"WWW-Authenticate": 'Bearer realm="inframind", error="invalid_token"'},
    )


async def settle_on(
    database: AsyncConnection, caller: Caller, call_id: UUID, *, served: bool, fee_base_units: int
) -> None:
    """Counts a call that was served, and gives the place of any other back.

    Has to run inside the transaction that writes the call's row. Raises a 503 ``Problem`` when the
    hold of a served call had ended meanwhile, since its place may be another's by now: the
    transaction has to be rolled back, and the answer not delivered.
    """
    parameters = {
        "ids": list(caller.meters),
        "call_id": call_id,
        "fee": fee_base_units,
        "served": served,
    }
    async with database.pipeline():
        await database.execute(_LOCK, parameters)
        cursor = await database.execute(_SETTLE, parameters)
    if served and cursor.rowcount != len(caller.meters):
        raise Problem(
            "not-recorded",
            "The call took longer than its token's limit could be held for it.",
            status=503,
            remedy="Try again in a moment.",
            retry_safe=True,
            retry_after_seconds=5,
        )


def _calls_used_up(meter: _Asked, whose: str) -> Problem:
    held = f" and {meter.calls_held} under way" if meter.calls_held else ""
    return _used_up(
        f"The limit of {whose} is {meter.calls_limit} call{'s' if meter.calls_limit != 1 else ''}: "
        f"{meter.calls_used} used{held}.",
        {
            "kind": "calls",
            "limit": meter.calls_limit,
            "used": meter.calls_used,
            "held": meter.calls_held,
        },
    )


def _spend_used_up(meter: _Asked, whose: str, fee_base_units: int) -> Problem:
    limit, used, held = (
        int(meter.spend_limit_base_units),
        int(meter.spent_base_units),
        int(meter.fees_held),
    )
    under_way = f" and {format_ifm(held)} held by calls under way" if held else ""
    return _used_up(
        f"The limit of {whose} is {format_ifm(limit)}: {format_ifm(used)} spent{under_way}, and "
        f"this call costs {format_ifm(fee_base_units)}.",
        {"kind": "spend", "limit": _amount(limit), "used": _amount(used), "held": _amount(held)},
    )


def _used_up(detail: str, limit: dict[str, Any]) -> Problem:
    return Problem(
        "token-limit-reached",
        f"{detail} Nothing was charged.",
        status=402,
        remedy="Use a token with a higher limit, or make one.",
        extra={"limit": limit},
    )


def _amount(base_units: int) -> dict[str, str]:
    return {"base_units": str(base_units), "text": format_ifm(base_units)}
