"""Comparing an output with its golden one: exact, save for numbers within a tolerance."""

from __future__ import annotations

import math
from typing import Any, Final

from inframind.lib.pointer import escape

_SHOWN_CHARACTERS: Final = 80


def difference(
    actual: Any, golden: Any, *, absolute: float = 0.0, relative: float = 0.0
) -> str | None:
    """The first place where two JSON documents differ, in words; None when they agree.

    A number may lie ``absolute + relative * |golden|`` from its golden value; everything else is
    compared exactly, and a boolean is no number. NaN agrees with nothing.
    """
    waiting: list[tuple[str, Any, Any]] = [("", actual, golden)]
    while waiting:
        pointer, left, right = waiting.pop()
        if isinstance(left, dict) and isinstance(right, dict):
            missing = sorted(right.keys() - left.keys())
            surplus = sorted(left.keys() - right.keys())
            if missing:
                return f"{pointer}/{escape(missing[0])} is missing"
            if surplus:
                return f"{pointer}/{escape(surplus[0])} is not in the golden output"
            waiting.extend(
                (f"{pointer}/{escape(key)}", left[key], right[key])
                for key in sorted(right, reverse=True)
            )
        elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
            if len(left) != len(right):
                return f"{pointer or '/'} has {len(left)} items, not {len(right)}"
            waiting.extend(
                (f"{pointer}/{index}", left[index], right[index])
                for index in reversed(range(len(right)))
            )
        elif not _agree(left, right, absolute, relative):
            return f"{pointer or '/'} is {_shown(left)}, not {_shown(right)}"
    return None


def _agree(left: Any, right: Any, absolute: float, relative: float) -> bool:
    if _is_number(left) and _is_number(right):
        if left == right:
            return True
        try:
            distance, allowed = abs(left - right), absolute + relative * abs(right)
        except OverflowError:
            return False
        return math.isfinite(distance) and distance <= allowed
    return type(left) is type(right) and left == right


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
