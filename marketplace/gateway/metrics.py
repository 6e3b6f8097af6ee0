"""What Prometheus reads of the calls of this process: counts by outcome, latencies, batches."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

LATENCY_BOUNDS_US: Final = (
    500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000,
)  # fmt: skip
BATCH_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Counts of values by the first bound that they do not exceed; one loop adds, any may read."""

    def __init__(self, bounds: tuple[int, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0

    def add(self, value: int) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self, unit: float) -> list[tuple[str, float]]:
        """(upper bound in ``unit``, how many up to it), as Prometheus has them."""
        names = [*(f"{bound / unit:g}" for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Calls(Collector):
    """The calls that this process has answered. A loop's own counters cost a call a microsecond,
    those of the library ten."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.latencies = Histogram(LATENCY_BOUNDS_US)
        self.batches = Histogram(BATCH_BOUNDS)

    def ended(self, outcome: str, latency_us: int) -> None:
        """A call that has a row."""
        self.outcomes[outcome] += 1
        self.latencies.add(latency_us)

    def collect(self) -> Iterator[Metric]:
        counted = CounterMetricFamily(
            "inframind_calls", "Calls that were written down.", labels=["outcome"]
        )
        for outcome, count in sorted(self.outcomes.copy().items()):
            counted.add_metric([str(outcome)], count)
        yield counted
        yield HistogramMetricFamily(
            "inframind_call_latency_seconds",
            "From a call's first stage to its row.",
            buckets=self.latencies.buckets(1_000_000),
            sum_value=self.latencies.total / 1_000_000,
        )
        yield HistogramMetricFamily(
            "inframind_call_batch_size",
            "Calls that were written down in one commit.",
            buckets=self.batches.buckets(1),
            sum_value=self.batches.total,
        )


CALLS: Final = Calls()
REGISTRY.register(CALLS)
