"""What a wallet has called and spent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Q

from inframind.identity.caller import Caller
from marketplace.gateway.models import Call

# Days are UTC, and both they and the rows are of the database's clock.
# One statement, so that all sums are of the same rows; a day without calls has one without model.
_ROWS: Final = """
    WITH clock AS (
        SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date AS today
    ), span AS (
        SELECT day::date FROM clock, generate_series(
            (today - %(back)s)::timestamp, today::timestamp, interval '1 day') AS day
    ), made AS (
        SELECT (call.created_at AT TIME ZONE 'UTC')::date AS day, version.model_id AS model,
               call.token_id AS token, call.outcome = 'served' AS served,
               call.fee_base_units AS fee
        FROM clock, gateway_call call
        JOIN catalog_version version ON version.id = call.version_id
        JOIN catalog_model model ON model.name = version.model_id
        WHERE call.wallet_id = %(wallet)s
          AND call.created_at >= (today - %(back)s)::timestamp AT TIME ZONE 'UTC'
          AND (%(names)s::text[] IS NULL OR version.model_id = ANY(%(names)s))
          AND (NOT %(owned_only)s OR model.owner_id = %(wallet)s)
    )
    SELECT span.day, made.model, made.token, named.name, count(made.model),
           count(*) FILTER (WHERE made.served), coalesce(sum(made.fee), 0)
    FROM span
    LEFT JOIN made ON made.day = span.day
    LEFT JOIN identity_token named ON named.id = made.token AND named.wallet_id = %(wallet)s
    GROUP BY span.day, made.model, made.token, named.name
    ORDER BY span.day, made.model, named.name, made.token
"""


@dataclass(frozen=True)
class Tally:
    """Calls made, calls served, and what they cost."""

    calls: int
    served: int
    fees_base_units: int

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.calls + other.calls,
            self.served + other.served,
            self.fees_base_units + other.fees_base_units,
        )


NOTHING: Final = Tally(0, 0, 0)


@dataclass(frozen=True)
class UsedToken:
    """With what calls were made: a token of the wallet, or where both are None its session.

    ``name`` alone is None for a token that is gone.
    """

    id: UUID | None
    name: str | None


@dataclass(frozen=True)
class Usage:
    """Sums of a span of days: each day from the first on, each model and each token from the most
    used on."""

    total: Tally
    by_day: tuple[tuple[date, Tally], ...]
    by_model: tuple[tuple[str, Tally], ...]
    by_token: tuple[tuple[UsedToken, Tally], ...]

    @property
    def since(self) -> date:
        return self.by_day[0][0]


@dataclass(frozen=True)
class UsageRow:
    """What was called on one day, of one model, with one token."""

    day: date
    model: str
    token: UsedToken
    tally: Tally


@dataclass(frozen=True)
class RecentCalls:
    """Some calls, newest first; ``next``: where the older ones begin, None at the end."""

    calls: tuple[Call, ...]
    next: str | None


def usage_of(caller: Caller, *, days: int) -> Usage:
    """What the caller's wallet has called in the last ``days`` days, today included.

    A token for named or owned models sees the calls of those only.
    """
    rows = _rows(caller, days)
    by_day: dict[date, Tally] = {}
    by_model: dict[str, Tally] = {}
    by_token: dict[UsedToken, Tally] = {}
    total = NOTHING
    for day, model, token, tally in rows:
        by_day[day] = by_day.get(day, NOTHING) + tally
        if model is not None:
            by_model[model] = by_model.get(model, NOTHING) + tally
            by_token[token] = by_token.get(token, NOTHING) + tally
            total += tally
    return Usage(
        total,
        tuple(by_day.items()),
        tuple(sorted(by_model.items(), key=lambda each: (-each[1].calls, each[0]))),
        tuple(sorted(by_token.items(), key=lambda each: (-each[1].calls, str(each[0])))),
    )


def usage_rows(caller: Caller, *, days: int) -> Iterator[UsageRow]:
    """The same calls as ``usage_of``, one row per day, model and token, oldest first."""
    for day, model, token, tally in _rows(caller, days):
        if model is not None:
            yield UsageRow(day, model, token, tally)


def recent_calls(caller: Caller, *, before: str = "", limit: int = 25) -> RecentCalls:
    """The caller's calls, newest first, from a ``next`` on; from the newest for any other word."""
    calls = Call.objects.filter(wallet=caller.address).select_related("version")
    if caller.names is not None:
        calls = calls.filter(version__model__in=sorted(caller.names))
    if caller.owned_only:
        calls = calls.filter(version__model__owner=caller.address)
    place = _place_of(before)
    if place is not None:
        at, call_id = place
        calls = calls.filter(Q(created_at__lt=at) | Q(created_at=at, id__lt=call_id))
    found = tuple(calls.order_by("-created_at", "-id")[: limit + 1])
    if len(found) <= limit:
        return RecentCalls(found, None)
    last = found[limit - 1]
    return RecentCalls(found[:limit], f"{last.created_at.isoformat()}~{last.pk}")


def _place_of(text: str) -> tuple[datetime, UUID] | None:
    at, _, call_id = text.partition("~")
    try:
        place = datetime.fromisoformat(at), UUID(call_id)
    except ValueError:
        return None
    return place if place[0].tzinfo is not None else None


def _rows(caller: Caller, days: int) -> list[tuple[date, str | None, UsedToken, Tally]]:
    with connection.cursor() as cursor:
        cursor.execute(
            _ROWS,
            {
                "back": days - 1,
                "wallet": caller.address,
                "names": None if caller.names is None else sorted(caller.names),
                "owned_only": caller.owned_only,
            },
        )
        return [
            (day, model, UsedToken(token, name), Tally(int(calls), int(served), int(fees)))
            for day, model, token, name, calls, served, fees in cursor.fetchall()
        ]
