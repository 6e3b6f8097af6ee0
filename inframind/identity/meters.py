"""Limits of tokens, exact under concurrency: a call is held against them first, then settled.

A hold takes its place on every meter of the token and of its ancestors, or on none; settling turns
it into use, or gives it back. A hold that nobody settles ends at its own time. Whoever asks or
settles locks the meters first, in the order of their ids, and looks in a statement of its own
after that: a statement sees what was committed when it began, not when its lock was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection

from inframind.identity.caller import Caller
from inframind.lib.amounts import amount_document, format_ifm
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
    WITH asked AS (
        SELECT * FROM unnest(
            %(meters)s::uuid[], %(calls)s::uuid[], %(fees)s::numeric[], %(served)s::boolean[]
        ) AS asked (meter_id, call_id, fee, served)
    ), ended AS (
        DELETE FROM identity_meterhold held USING asked
        WHERE held.meter_id = asked.meter_id AND held.call_id = asked.call_id
        RETURNING held.meter_id, held.call_id, asked.fee, asked.served,
                  held.expires_at > statement_timestamp() AS live
    ), used AS (
        UPDATE identity_meter meter
        SET calls_used = calls_used + sums.calls,
            spent_base_units = spent_base_units + sums.fees
        FROM (
            SELECT meter_id, count(*) AS calls, sum(fee) AS fees FROM ended
            WHERE live AND served GROUP BY meter_id
        ) sums WHERE meter.id = sums.meter_id
    )
    SELECT call_id, count(*) FROM ended WHERE live GROUP BY call_id
"""


class Settlement(NamedTuple):
    """How a call that was held against ``meters`` ended; what it cost, in base units."""

    meters: tuple[UUID, ...]
    call_id: UUID
    served: bool
    fee_base_units: int


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
        # In int: arithmetic of Decimals rounds to 28 digits.
        spent = int(each.spent_base_units) + int(each.fees_held) + fee_base_units
        if limit is not None and spent > limit:
            raise _spend_used_up(each, whose, fee_base_units)
    raise Problem(
        "invalid-token",
        "The token cannot be used: its limits are no longer known.",
        status=401,
        remedy="Get a fresh token from the registry.",
        headers={"WWW-Authenticate": 'Bearer realm="inframind", error="invalid_token"'},
    )


async def settle_on(
    database: AsyncConnection[Any], settlements: Sequence[Settlement]
) -> frozenset[UUID]:
    """Counts calls that were served, and gives the places of the others back, in one round trip.

    Has to run inside the transaction that writes the calls' rows. Returns the served calls whose
    hold had ended meanwhile, since their places may be others' by now: where there are any, the
    transaction has to be rolled back, and their answers must not be delivered.
    """
    if not settlements:
        return frozenset()
    each = [(meter, call) for call in settlements for meter in call.meters]
    parameters = {
        "ids": list({meter for meter, _ in each}),
        "meters": [meter for meter, _ in each],
        "calls": [call.call_id for _, call in each],
        "fees": [str(call.fee_base_units) for _, call in each],
        "served": [call.served for _, call in each],
    }
    async with database.pipeline():
        await database.execute(_LOCK, parameters)
        cursor = await database.execute(_SETTLE, parameters)
        live: dict[UUID, int] = dict(await cursor.fetchall())
    return frozenset(
        call.call_id
        for call in settlements
        if call.served and live.get(call.call_id) != len(call.meters)
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
        {
            "kind": "spend",
            "limit": amount_document(limit),
            "used": amount_document(used),
            "held": amount_document(held),
        },
    )


def _used_up(detail: str, limit: dict[str, Any]) -> Problem:
    return Problem(
        "token-limit-reached",
        f"{detail} Nothing was charged.",
        status=402,
        remedy="Use a token with a higher limit, or make one.",
        extra={"limit": limit},
    )
