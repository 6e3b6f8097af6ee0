"""Lists of wallets as people keep them: one a line, with an end and a note after commas."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from inframind.lib.addresses import checksum_address
from inframind.lib.durations import parse_duration
from inframind.lib.problem import Problem, Violation
from marketplace.catalog.access import MAX_ENTRIES, Guest

MAX_BYTES: Final = 2 << 20
_SHOWN: Final = 100
_MAX_LINE_CHARACTERS: Final = 10_000


def read_guests(text: str, *, now: datetime) -> list[Guest]:
    """The guests of a file: ``0x…`` or ``@group``, then optionally an end and a note.

    Blank lines, lines that begin with ``#`` and a heading are left out. Raises a 422 ``Problem``
    with the number of every line that cannot be used.
    """
    guests: list[Guest] = []
    wrong: list[Violation] = []
    for number, (who, end, note) in _lines(text):
        try:
            guests.append(_guest(who, end, note, number, now))
        except ValueError as error:
            wrong.append(Violation("", str(error), line=number))
    if wrong:
        raise Problem(
            "invalid-list",
            f"{len(wrong)} line{'' if len(wrong) == 1 else 's'} cannot be used; nothing was "
            "changed.",
            status=422,
            violations=tuple(wrong[:_SHOWN]),
            remedy="One wallet a line: 0x…, 30d, a note. The end and the note may be left out.",
        )
    if not guests:
        raise Problem("invalid-list", "The list names nobody.", status=422)
    if len(guests) > MAX_ENTRIES:
        raise Problem("list-full", f"A list has at most {MAX_ENTRIES} entries.", status=422)
    return guests


def read_end(text: str, *, now: datetime) -> datetime | None:
    """The time that ``30d``, ``2027-01-31`` (the end of that day, UTC) or an RFC 3339 time means;
    None for nothing. Raises ``ValueError``."""
    text = text.strip()
    if not text:
        return None
    try:
        end = _end(text, now)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:40]!r} is no end. Write 24h or 30d, a day like 2027-01-31, or a time like "
            "2027-01-31T12:00:00Z."
        ) from None
    if end <= now:
        raise ValueError("That end has passed already.")
    return end


def _end(text: str, now: datetime) -> datetime:
    with contextlib.suppress(ValueError):
        return now + parse_duration(text)
    end = datetime.fromisoformat(text)
    if len(text) == len("2027-01-31"):
        end += timedelta(days=1)
    return (end if end.tzinfo is not None else end.replace(tzinfo=UTC)).astimezone(UTC)


def _lines(text: str) -> Iterator[tuple[int, tuple[str, str, str]]]:
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = line.replace("\0", "").strip()
        if not line or line.startswith("#"):
            continue
        # A line of a foreign file can be too long to be split; none of ours is.
        cells = _cells(line) if len(line) <= _MAX_LINE_CHARACTERS else [line]
        if number == 1 and cells[0].lower() in ("address", "wallet", "who"):
            continue
        who, end, *notes = [*cells, ""] if len(cells) > 1 else [cells[0], "", ""]
        yield number, (who, end, ", ".join(note for note in notes if note))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]


def _guest(who: str, end: str, note: str, number: int, now: datetime) -> Guest:
    expires_at = read_end(end, now=now)
    if who.startswith("@"):
        return Guest(group=who[1:], expires_at=expires_at, note=note, line=number)
    address = checksum_address(who)
    return Guest(address=address, expires_at=expires_at, note=note, line=number)
