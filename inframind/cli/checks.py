"""What a command has checked by itself: in words, each with its outcome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from inframind.cli.terminal import out, plain, styled

_MOST_DETAILS: Final = 10


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; ``passed`` is None where it could not be, ``details`` say why."""

    words: str
    passed: bool | None
    details: tuple[str, ...] = ()


def unless(words: str, flaws: Iterable[str]) -> Check:
    """A check that passed unless there are flaws; the first of them are told."""
    found = tuple(islice(flaws, _MOST_DETAILS + 1))
    if len(found) > _MOST_DETAILS:
        found = (*found[:_MOST_DETAILS], "… and more.")
    return Check(words, not found, found)


def failed(checks: Sequence[Check]) -> bool:
    return any(each.passed is False for each in checks)


def show(checks: Sequence[Check]) -> None:
    """A line a check on stdout, its details below."""
    for each in checks:
        sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[each.passed]
        out(f"{styled(sign, style, stdout=True)} {plain(each.words)}")
        for detail in each.details:
            out(f"    {plain(detail)}")


def documents(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """The same for a program; ``passed`` is null where it could not be checked."""
    return [
        {"check": each.words, "passed": each.passed, "details": list(each.details)}
        for each in checks
    ]
