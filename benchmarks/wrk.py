"""Load from wrk, which takes little of the machine that it measures on."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("post.lua")
WARM_UP_SECONDS = 2


@dataclass(frozen=True)
class Target:
    """What is asked: one POST."""

    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Load:
    """What came of it. ``failed``: answers that were none or not 2xx."""

    requests: int
    seconds: float
    bytes: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    def as_document(self) -> dict[str, Any]:
        return {**asdict(self), "per_second": round(self.per_second, 1)}


def load(target: Target, *, concurrency: int, seconds: float, warm: bool = True) -> Load:
    """Asks at a fixed concurrency, after a short run that is not counted.

    Ends the run where wrk is not installed.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk makes the load and is not here: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        body, headers = Path(folder) / "body", Path(folder) / "headers"
        body.write_bytes(target.body)
        given = {"Accept-Encoding": "identity", **target.headers}
        headers.write_text("".join(f"{name}: {value}\n" for name, value in given.items()))
        found: dict[str, Any] = {}
        for duration in ((WARM_UP_SECONDS,) if warm else ()) + (seconds,):
            done = subprocess.run(
                [
                    wrk, "--threads=1", f"--connections={concurrency}", f"--duration={duration:g}s",
                    "--timeout=30s", f"--script={SCRIPT}", target.url, "--", str(body),
                    str(headers),
                ],
                capture_output=True,
                text=True,
                check=True,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1])
    return Load(**{key: found[key] for key in Load.__dataclass_fields__})
