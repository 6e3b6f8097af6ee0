"""Whether a gateway process grows: its memory over 1,000,000 paid calls."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from benchmarks import echo, reports
from benchmarks.gateway import FEE, call_of, one_node, paying_token
from benchmarks.server import assert_durable, gateway
from benchmarks.wrk import load

CALLS = int(os.environ.get("BENCH_CALLS", "1000000"))
SLICE_SECONDS = 10.0
# The first calls fill caches and arenas of a size that is bounded.
WARM_CALLS = 100_000
# What is not measurable: less than the run's own noise between two slices.
GROWTH_MAX_BYTES_PER_CALL = 1.0


def main(out: Path) -> None:
    """Measures, prints a line for every slice, writes `<out>/endurance.json`."""
    assert_durable()
    version = echo.text_model("echo-paid-v1", fee=FEE)
    one_node([version])
    samples: list[tuple[int, int]] = []
    calls = 0
    with gateway() as served:
        target = call_of(served, version, paying_token())
        while calls < CALLS + WARM_CALLS:
            found = load(target, concurrency=16, seconds=SLICE_SECONDS, warm=False)
            if found.failed:
                raise SystemExit(f"{found.failed} calls failed.")
            calls += found.requests
            if calls >= WARM_CALLS:
                samples.append((calls, served.resident_bytes()))
            print(
                f"{calls:>9,} calls  {found.per_second:>8,.0f} req/s  "
                f"{served.resident_bytes() / (1 << 20):>7.1f} MiB",
                flush=True,
            )
    grown = slope(samples)
    reached = grown <= GROWTH_MAX_BYTES_PER_CALL
    print(f"{grown:+.3f} bytes a call{'' if reached else '   NOT REACHED'}")
    reports.write(
        out, "endurance", samples=samples, bytes_per_call=round(grown, 3), reached=reached
    )


def slope(samples: list[tuple[int, int]]) -> float:
    """Bytes a call by Theil and Sen: the median of all pairwise slopes, which no outlier moves."""
    if len(samples) < 2 or any(one[0] >= two[0] for one, two in pairwise(samples)):
        raise ValueError("A slope needs two samples, in the order of their calls.")
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for index, earlier in enumerate(samples)
        for later in samples[index + 1 :]
    )
    middle = len(slopes) // 2
    return slopes[middle] if len(slopes) % 2 else (slopes[middle - 1] + slopes[middle]) / 2
