"""A load generator in a process of its own: one request again and again, at a fixed concurrency.

Reads one JSON plan on stdin, writes one JSON result on stdout:
`{"url", "headers", "body_base64", "concurrency", "seconds"}` →
`{"requests", "failed", "requests_per_second", "p50_ms", "p95_ms", "first_failure"}`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from typing import Any

import aiohttp


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Warms up for a tenth of the time, then measures."""
    body = base64.b64decode(plan["body_base64"])
    headers = {"Accept-Encoding": "identity", **plan["headers"]}
    latencies: list[float] = []
    failures: list[str] = []
    warm_until = time.perf_counter() + plan["seconds"] / 10
    end = warm_until + plan["seconds"]

    async def caller(http: aiohttp.ClientSession) -> None:
        while (started := time.perf_counter()) < end:
            async with http.post(plan["url"], data=body, headers=headers) as answer:
                content = await answer.read()
            if started < warm_until:
                continue
            latencies.append(time.perf_counter() - started)
            if answer.status != 200:
                failures.append(f"{answer.status}: {content[:200]!r}")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        await asyncio.gather(*(caller(http) for _ in range(plan["concurrency"])))
    latencies.sort()
    return {
        "requests": len(latencies),
        "failed": len(failures),
        "requests_per_second": round(len(latencies) / plan["seconds"], 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 2),
        "p95_ms": round(latencies[int(len(latencies) * 0.95)] * 1000, 2),
        "first_failure": failures[0] if failures else None,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run(json.loads(sys.stdin.read())))))
