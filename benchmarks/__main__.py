"""`python -m benchmarks`: every benchmark, on the stack that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    django.setup()
    from benchmarks import gateway

    gateway.main(Path(__file__).resolve().parent.parent / "var" / "bench")
