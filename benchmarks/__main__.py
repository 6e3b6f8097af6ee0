"""`python -m benchmarks [NAME …]`: on the stack that the environment names; all without a name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    django.setup()
    from benchmarks import closing, endurance, failover, gateway, hidden, recording, trees

    out = Path(__file__).resolve().parent.parent / "var" / "bench"
    benchmarks = {
        "gateway": gateway.main,
        "hidden": hidden.main,
        "recording": recording.main,
        "trees": trees.main,
        "closing": closing.main,
        "endurance": endurance.main,
        "failover": failover.main,  # leaves a node dead
    }
    for name in sys.argv[1:] or benchmarks:
        benchmarks[name](out)
