"""What a wallet has called and spent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from django.db import connection

from inframind.identity.caller import Caller

# Days are UTC, and both they and the rows are of the database's clock. In one statement, so that
# the sums are of the same rows.
_USAGE: Final = """
    WITH clock AS (
        SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date AS today
    ), span AS (
        SELECT day::date FROM clock, generate_series(
            (today - %(back)s)::timestamp, today::timestamp, interval '1 day') AS day
    ), made AS (
        SELECT (call.created_at AT TIME ZONE 'UTC')::date AS day, version.model_id AS model,
               call.outcome = 'served' AS served, call.fee_base_units AS fee
        FROM clock, gateway_call call
        JOIN catalog_version version ON version.id = call.version_id
        JOIN catalog_model model ON model.name = version.model_id
        WHERE call.wallet_id = %(wallet)s
          AND call.created_at >= (today - %(back)s)::timestamp AT TIME ZONE 'UTC'
          AND (%(names)s::text[] IS NULL OR version.model_id = ANY(%(names)s))
          AND (NOT %(owned_only)s OR model.owner_id = %(wallet)s)
    )
    SELECT span.day, NULL, count(made.model), count(*) FILTER (WHERE made.served),
           coalesce(sum(made.fee), 0)
    FROM span LEFT JOIN made ON made.day = span.day
    GROUP BY span.day
    UNION ALL
    SELECT NULL, model, count(*), count(*) FILTER (WHERE served), sum(fee)
    FROM made GROUP BY model
    ORDER BY 1, 3 DESC, 2
"""


@dataclass(frozen=True)
class Tally:
    """Calls made, calls served, and what they cost."""

    calls: int
    served: int
    fees_base_units: int


@dataclass(frozen=True)
class Usage:
    """Sums of a span of days: each day from the first on, each model from the most called on."""

    total: Tally
    by_day: tuple[tuple[date, Tally], ...]
    by_model: tuple[tuple[str, Tally], ...]

    @property
    def since(self) -> date:
        return self.by_day[0][0]


def usage_of(caller: Caller, *, days: int) -> Usage:
    """What the caller's wallet has called in the last ``days`` days, today included.

    A token for named or owned models sees the calls of those only.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _USAGE,
            {
                "back": days - 1,
                "wallet": caller.address,
                "names": None if caller.names is None else sorted(caller.names),
                "owned_only": caller.owned_only,
            },
        )
        rows = cursor.fetchall()
    by_day = tuple((row[0], _tally(row)) for row in rows if row[0] is not None)
    by_model = tuple((row[1], _tally(row)) for row in rows if row[0] is None)
    total = Tally(
        calls=sum(each.calls for _, each in by_day),
        served=sum(each.served for _, each in by_day),
        fees_base_units=sum(each.fees_base_units for _, each in by_day),
    )
    return Usage(total, by_day, by_model)


def _tally(row: tuple[object, object, int, int, object]) -> Tally:
    return Tally(int(row[2]), int(row[3]), int(str(row[4])))
