"""Durations as people type them: ``90s``, ``15m``, ``24h``, ``30d``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

MAX_DAYS: Final = 36_500  # added to any date of today's it stays one that all our readers know
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([1-9][0-9]{0,9})([smhd])\Z")


def parse_duration(text: str) -> timedelta:
    """Raises ``ValueError`` with the accepted forms, and for more than a hundred years."""
    match = _FORM.match(text.strip())
    if match is None:
        shown = text if len(text) <= 40 else f"{text[:39]}…"
        raise ValueError(f"{shown!r} is not a duration such as 90s, 15m, 24h or 30d")
    duration = timedelta(**{_UNITS[match[2]]: int(match[1])})
    if duration > timedelta(days=MAX_DAYS):
        raise ValueError(f"a duration has at most {MAX_DAYS}d, and {text.strip()} is longer")
    return duration
