"""Durations as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from inframind.lib.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("24h", 86_400), ("30d", 2_592_000)]
)
def test_units(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0h", "24", "h", "1.5h", "-3d", "1w", "99999999999d", "1h1m"])
def test_anything_else_is_refused_with_the_accepted_forms(text: str) -> None:
    with pytest.raises(ValueError, match="90s, 15m, 24h or 30d"):
        parse_duration(text)


def test_a_century_is_the_most() -> None:
    assert parse_duration("36500d") == timedelta(days=36_500)
    for text in ("36501d", "9999999d", "9999999999h"):
        with pytest.raises(ValueError, match=f"at most 36500d, and {text} is longer"):
            parse_duration(text)


def test_a_long_text_is_not_told_back_whole() -> None:
    with pytest.raises(ValueError, match="not a duration") as caught:
        parse_duration("x" * 10_000)
    assert len(str(caught.value)) < 120
