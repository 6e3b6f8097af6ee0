"""`python -m benchmarks [gateway] [hidden]`: on the stack that the environment names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    django.setup()
    from benchmarks import gateway, hidden

    out = Path(__file__).resolve().parent.parent / "var" / "bench"
    chosen = sys.argv[1:] or ["gateway", "hidden"]
    for name in chosen:
        {"gateway": gateway.main, "hidden": hidden.main}[name](out)
