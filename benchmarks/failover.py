"""A node is killed under load: how many calls fail, and how soon the rest are quick again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from benchmarks import echo, reports
from benchmarks.gateway import FEE, call_of, paying_token
from benchmarks.server import gateway
from benchmarks.wrk import Target
from marketplace.mesh import placing, services
from marketplace.mesh.models import Node, Placement

CONCURRENCY = 16
BEFORE_SECONDS = 6.0
AFTER_SECONDS = 10.0
WINDOW_SECONDS = 0.25
BACK_SECONDS = 2.0
# Quick again: no slower than this many times what it was before.
SLACK = 2.0


@dataclass(frozen=True)
class Sample:
    """One call: when it began and how long it took, in seconds since the start."""

    at: float
    seconds: float
    failure: str


def main(out: Path) -> None:
    """Measures, prints what happened, writes `<out>/failover.json`.

    The killed node stays dead: the last benchmark of a run.
    """
    version = echo.text_model("echo-paid-v1", fee=FEE)
    nodes = placing.eligible_nodes(version)[:2]
    if len(nodes) < 2:
        raise SystemExit("It takes two nodes.")
    for node in nodes:
        placement = services.place(version_id=version.pk, node_id=node.pk, again=True)
        if placement.state != Placement.State.READY:
            raise SystemExit(f"{version} is not ready on {node}: {placement.reason}")
    with gateway() as served:
        target = call_of(served, version, paying_token())
        samples, killed_at = asyncio.run(_under_load(target, nodes[0]))
    before = _p99([each for each in samples if 1 <= each.at < killed_at])
    back = back_at(samples, killed_at, before * SLACK)
    failed = [each for each in samples if each.failure]
    reached = not failed and back <= BACK_SECONDS
    print(
        f"{len(samples):,} calls at {CONCURRENCY}, {nodes[0]} killed: {len(failed)} failed; p99 "
        f"{before * 1000:.1f} ms before, below {SLACK:g} times that again after {back:.2f} s"
        f"{'' if reached else '   NOT REACHED'}"
    )
    reports.write(
        out,
        "failover",
        calls=len(samples),
        failed=len(failed),
        first_failure=failed[0].failure if failed else None,
        p99_before_ms=round(before * 1000, 2),
        back_seconds=round(back, 2),
        reached=reached,
    )


async def _under_load(target: Target, victim: Node) -> tuple[list[Sample], float]:
    samples: list[Sample] = []
    began = time.perf_counter()
    end = BEFORE_SECONDS + AFTER_SECONDS

    async def caller(http: aiohttp.ClientSession) -> None:
        while (at := time.perf_counter() - began) < end:
            failure = ""
            try:
                async with http.post(target.url, data=target.body, headers=target.headers) as said:
                    content = await said.read()
                    if said.status != 200:
                        failure = f"{said.status}: {content[:200]!r}"
            except aiohttp.ClientError as error:
                failure = f"{type(error).__name__}: {error}"
            samples.append(Sample(at, time.perf_counter() - began - at, failure))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        calls = [asyncio.create_task(caller(http)) for _ in range(CONCURRENCY)]
        await asyncio.sleep(BEFORE_SECONDS)
        killed_at = time.perf_counter() - began
        os.kill(_pid_of(victim), signal.SIGKILL)
        await asyncio.gather(*calls)
    return samples, killed_at


def _pid_of(node: Node) -> int:
    """The Triton process of a node of the embedded stack, by its port on the command line."""
    wanted = f"--http-port={urlsplit(node.endpoint).port}".encode()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if wanted in words and words[0].endswith(b"tritonserver"):
            return int(entry.name)
    raise SystemExit(f"No process of {node} is here.")


def _p99(samples: list[Sample]) -> float:
    ordered = sorted(each.seconds for each in samples)
    return ordered[int(len(ordered) * 0.99)]


def back_at(samples: list[Sample], killed_at: float, limit_seconds: float) -> float:
    """Seconds from the kill to the end of the last window whose p99 was above the limit."""
    last = 0.0
    for turn in range(int(AFTER_SECONDS / WINDOW_SECONDS)):
        start = killed_at + turn * WINDOW_SECONDS
        window = [each for each in samples if start <= each.at < start + WINDOW_SECONDS]
        if not window or _p99(window) > limit_seconds:
            last = (turn + 1) * WINDOW_SECONDS
    return last
