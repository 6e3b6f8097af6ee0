"""Availability hour by hour, from the probes of a version on its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Q
from django.db.models.functions import TruncHour
from django.utils import timezone

from marketplace.mesh.models import Probe

HOURS = 24


@dataclass(frozen=True)
class HourUp:
    """An hour of probes. `share` is what was answered, None where nobody looked."""

    at: datetime
    probes: int
    answered: int

    @property
    def share(self) -> float | None:
        return self.answered / self.probes if self.probes else None


def uptime(version_id: UUID) -> tuple[HourUp, ...]:
    """The last 24 hours, the oldest first, the running one included."""
    first = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    rows = (
        Probe.objects.filter(version=version_id, created_at__gte=first)
        .annotate(hour=TruncHour("created_at"))
        .values("hour")
        .annotate(probes=Count("pk"), answered=Count("pk", filter=Q(ok=True)))
        .values_list("hour", "probes", "answered")
    )
    found = {hour: (probes, answered) for hour, probes, answered in rows}
    hours = (first + timedelta(hours=index) for index in range(HOURS))
    return tuple(HourUp(hour, *found.get(hour, (0, 0))) for hour in hours)
