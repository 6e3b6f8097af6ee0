"""A gateway process of the benchmarks' own, as it runs in production: apart from the pages."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from inframind.devstack.ports import free_ports

START_SECONDS = 60


@dataclass(frozen=True)
class Gateway:
    """One process that serves calls."""

    url: str
    pid: int

    def resident_bytes(self) -> int:
        """What it holds in memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise ProcessLookupError(self.pid)


@contextmanager
def gateway() -> Iterator[Gateway]:
    """One gateway process on a free port, whose callers have no limit but the machine."""
    port = free_ports(1)[0]
    unlimited = dict.fromkeys(
        (
            "WALLET_CALLS_PER_MINUTE",
            "ANONYMOUS_CALLS_PER_MINUTE",
        ),
        "1000000000",
    )
    process = subprocess.Popen(
        [
            sys.executable, "-m", "uvicorn", "inframind.asgi:application", "--host=127.0.0.1",
            f"--port={port}", "--no-server-header", "--no-access-log", "--log-level=warning",
        ],
        env={**os.environ, **unlimited, "INFRAMIND_ROLE": "gateway", "LOG_LEVEL": "WARNING"},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                if httpx.get(f"{url}/livez", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("The gateway does not start.") from None
            time.sleep(0.1)
        yield Gateway(url, process.pid)
    finally:
        process.terminate()
        process.wait(30)


def assert_durable() -> dict[str, str]:
    """PostgreSQL's settings that make a commit durable; ends the run where one is off."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        found = {
            name: str(database.execute(f"SHOW {name}").fetchone()[0])  # type: ignore[index]
            for name in ("fsync", "synchronous_commit", "full_page_writes")
        }
    if any(value != "on" for value in found.values()):
        raise SystemExit(f"The database does not keep what it commits: {found}")
    return found
