"""What a benchmark leaves behind: one JSON document beside the others'."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


def write(out: Path, name: str, **found: Any) -> None:
    """Writes `<out>/<name>.json`, with when and on how many cores it was found."""
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "benchmark": name,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        **found,
    }
    (out / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n")
