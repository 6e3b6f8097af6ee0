"""Figures and receipts, read from the calls and the probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Aggregate, Case, Count, FloatField, Max, Q, QuerySet, Sum, When
from django.db.models.functions import TruncHour

from billing.epochs.models import Epoch
from inframind.identity.caller import Caller
from inframind.lib.problem import not_found
from marketplace.catalog.models import Version
from marketplace.gateway.links import normal
from marketplace.gateway.models import Batch, Call

# Below this many calls (or probes) a percentage says more than is known.
MIN_SAMPLE: Final = 20
WINDOWS: Final = (
    ("1 h", timedelta(hours=1)),
    ("24 h", timedelta(hours=24)),
    ("30 d", timedelta(days=30)),
)
HOURS: Final = 24
_SERVED: Final = Q(outcome=Call.Outcome.SERVED)
_COUNTED: Final = Q(outcome__in=[outcome.value for outcome in Call.COUNTED])


class Percentile(Aggregate):
    """PostgreSQL's ``percentile_cont``; takes ``fraction`` and Django's ``filter``."""

    function = "PERCENTILE_CONT"
    template = "%(function)s(%(fraction)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()

    def __init__(self, expression: str, *, fraction: float, **extra: Any) -> None:
        super().__init__(expression, fraction=fraction, **extra)


@dataclass(frozen=True)
class Window:
    """One span of time. ``calls`` leaves out callers' own mistakes; None: not enough data."""

    label: str
    calls: int
    served: int
    success_rate: float | None
    p50_ms: float | None
    p95_ms: float | None
    availability: float | None
    probes: int


@dataclass(frozen=True)
class HourPoint:
    """One hour's calls. ``p50_ms`` is None where nothing was served."""

    at: datetime
    calls: int
    served: int
    p50_ms: float | None


@dataclass(frozen=True)
class Diagnostics:
    windows: tuple[Window, ...]
    hours: tuple[HourPoint, ...]


@dataclass(frozen=True)
class Figures:
    """The small numbers of a card, over 24 hours."""

    p50_ms: float | None
    success_rate: float | None
    calls_24h: int
    hourly: tuple[int, ...]


def median_latency_us() -> Percentile:
    """An aggregate over calls: the median latency of those that were served, in microseconds."""
    return Percentile("latency_us", fraction=0.5, filter=_SERVED)


def diagnostics(model_name: str, number: str | None = None) -> Diagnostics:
    """Latency, success and availability of a version, or of all versions of a model."""
    versions = Version.objects.filter(model_id=model_name)
    if number is not None:
        versions = versions.filter(number=number)
    ids = list(versions.values_list("pk", flat=True))
    now = _now()
    return Diagnostics(
        windows=tuple(_window(ids, label, now - span) for label, span in WINDOWS),
        hours=_hours(ids, now),
    )


def figures_for(names: Sequence[str]) -> dict[str, Figures]:
    """Figures per model name, in one query; models without calls have empty ones."""
    empty = Figures(None, None, 0, (0,) * HOURS)
    found = dict.fromkeys(names, empty)
    if not names:
        return found
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT name, hour,
                   count(*) FILTER (WHERE outcome = ANY(%(counted)s)),
                   count(*) FILTER (WHERE outcome = 'served'),
                   percentile_cont(0.5) WITHIN GROUP (ORDER BY latency_us)
                       FILTER (WHERE outcome = 'served')
            FROM (
                SELECT v.model_id AS name, c.outcome, c.latency_us,
                       extract(epoch FROM date_trunc('hour', c.created_at) - first)::int / 3600
                           AS hour
                FROM gateway_call c
                JOIN catalog_version v ON v.id = c.version_id,
                     (SELECT date_trunc('hour', statement_timestamp())
                              - make_interval(hours => %(back)s) AS first) clock
                WHERE v.model_id = ANY(%(names)s) AND c.created_at >= first
            ) AS calls
            GROUP BY GROUPING SETS ((name), (name, hour))
            """,
            {
                "names": list(names),
                "back": HOURS - 1,
                "counted": [outcome.value for outcome in Call.COUNTED],
            },
        )
        rows = cursor.fetchall()
    hourly: dict[str, list[int]] = {name: [0] * HOURS for name in names}
    totals: dict[str, tuple[int, int, float | None]] = {}
    for name, hour, calls, served, p50_us in rows:
        if hour is None:
            totals[name] = (calls, served, p50_us)
        else:
            hourly[name][min(hour, HOURS - 1)] += calls
    for name, (calls, served, p50_us) in totals.items():
        found[name] = Figures(
            p50_ms=_ms(p50_us, served),
            success_rate=_rate(served, calls),
            calls_24h=calls,
            hourly=tuple(hourly[name]),
        )
    return found


@dataclass(frozen=True)
class Tally:
    """A version's calls over some time. ``failed`` leaves out callers' own mistakes."""

    served: int
    failed: int
    served_us: int  # all latencies together
    failed_us: int
    node_us: int  # of the served ones, what the nodes took
    last_ms: int  # when the last one was served, since 1970; 0: none was


def tally_of_version(version_id: UUID, seconds: int) -> Tally:
    """Counts and times of the version's calls, so many seconds back."""
    calls = Call.objects.filter(
        version=version_id, created_at__gte=_now() - timedelta(seconds=seconds)
    )
    found = calls.aggregate(
        served=Count("pk", filter=_SERVED),
        failed=Count("pk", filter=_COUNTED & ~_SERVED),
        served_us=Sum("latency_us", filter=_SERVED, default=0),
        failed_us=Sum("latency_us", filter=_COUNTED & ~_SERVED, default=0),
        node_us=Sum("node_latency_us", filter=_SERVED, default=0),
        last=Max("created_at", filter=_SERVED),
    )
    last = found.pop("last")
    whole = {name: int(value) for name, value in found.items()}
    return Tally(**whole, last_ms=int(last.timestamp() * 1000) if last else 0)


@dataclass(frozen=True)
class Receipt:
    """A call with the batch that it was signed in. ``whole``: the viewer made, owns or served it.

    ``batch`` is None for a call from before receipts were signed. ``epoch_state`` is None then.
    """

    call: Call  # its version, model, node and wallet are at hand
    batch: Batch | None
    epoch_state: str | None
    whole: bool


def receipt(call_id: UUID, *, viewer: Caller | None) -> Receipt:
    """A call's receipt by its id. Raises a 404 ``Problem``.

    That of a public model is seen by whoever has the id, in part; whole, and of a private model at
    all, by its caller, the model's owner and the node's operator.
    """
    theirs = _theirs(viewer)
    call = (
        Call.objects.filter(Q(version__model__public=True) | theirs, pk=call_id)
        .annotate(whole=Case(When(theirs, then=True), default=False))
        .select_related("version__model", "node", "wallet")
        .first()
    )
    if call is None:
        raise not_found("receipt with this id")
    return Receipt(
        call=call,
        batch=Batch.objects.filter(pk=call.batch_id).first(),
        epoch_state=Epoch.objects.filter(pk=call.epoch).values_list("state", flat=True).first(),
        whole=call.whole,
    )


def _theirs(viewer: Caller | None) -> Q:
    """The calls that a viewer is party to, as far as their token reaches."""
    if viewer is None:
        return Q(pk__in=[])
    theirs = Q(version__model__owner=viewer.address)
    if not viewer.owned_only:
        theirs |= Q(wallet=viewer.address) | Q(operator_address=normal(viewer.address))
    if viewer.names is not None:
        theirs &= Q(version__model__in=sorted(viewer.names))
    return theirs


def _calls(ids: list[UUID], since: datetime) -> QuerySet[Call]:
    return Call.objects.filter(version_id__in=ids, created_at__gte=since)


def _window(ids: list[UUID], label: str, since: datetime) -> Window:
    row = _calls(ids, since).aggregate(
        calls=Count("pk", filter=_COUNTED),
        served=Count("pk", filter=_SERVED),
        p50=median_latency_us(),
        p95=Percentile("latency_us", fraction=0.95, filter=_SERVED),
    )
    availability, probes = _availability(ids, since)
    return Window(
        label=label,
        calls=row["calls"],
        served=row["served"],
        success_rate=_rate(row["served"], row["calls"]),
        p50_ms=_ms(row["p50"], row["served"]),
        p95_ms=_ms(row["p95"], row["served"]),
        availability=availability,
        probes=probes,
    )


def _availability(ids: list[UUID], since: datetime) -> tuple[float | None, int]:
    """Share of the minutes looked at in which some node would have served, and the probes made."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) FILTER (WHERE up), count(*), coalesce(sum(probes), 0)
            FROM (
                SELECT bool_or(ok) AS up, count(*) AS probes FROM mesh_probe
                WHERE version_id = ANY(%s) AND created_at >= %s
                GROUP BY version_id, date_trunc('minute', created_at)
            ) AS minutes
            """,
            [ids, since],
        )
        up, minutes, probes = cursor.fetchone()
    return (up / minutes if probes >= MIN_SAMPLE else None), int(probes)


def _hours(ids: list[UUID], now: datetime) -> tuple[HourPoint, ...]:
    first = _first_hour(now)
    rows = (
        _calls(ids, first)
        .annotate(hour=TruncHour("created_at"))
        .values("hour")
        .annotate(
            calls=Count("pk", filter=_COUNTED),
            served=Count("pk", filter=_SERVED),
            p50=median_latency_us(),
        )
    )
    found = {row["hour"]: row for row in rows}
    points = []
    for index in range(HOURS):
        at = first + timedelta(hours=index)
        row = found.get(at)
        if row is None:
            points.append(HourPoint(at, 0, 0, None))
            continue
        p50_ms = None if row["p50"] is None else row["p50"] / 1000
        points.append(HourPoint(at, row["calls"], row["served"], p50_ms))
    return tuple(points)


def _now() -> datetime:
    """The time of the clock that stamps calls and probes."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def _first_hour(now: datetime) -> datetime:
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    return this_hour - timedelta(hours=HOURS - 1)


def _rate(part: int, whole: int) -> float | None:
    return part / whole if whole >= MIN_SAMPLE else None


def _ms(microseconds: float | None, sample: int) -> float | None:
    return None if microseconds is None or sample < MIN_SAMPLE else microseconds / 1000
