"""Durations as people type them: ``90s``, ``15m``, ``24h``, ``30d``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"([1-9][0-9]{0,6})([smhd])\Z")


def parse_duration(text: str) -> timedelta:
    """Raises ``ValueError`` with the accepted forms."""
    match = _FORM.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m, 24h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
