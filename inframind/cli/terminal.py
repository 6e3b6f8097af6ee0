"""The screen: results on stdout, messages on stderr, colour only where a person reads."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console

# Control characters would let a stranger's description move the cursor or hide text; bidirectional
# marks would let it read differently from what it says.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_STYLES: Final = {"bold": "1", "dim": "2", "red": "1;31", "green": "32", "yellow": "33"}


def prepare() -> None:
    """Lets a stream that cannot show a character show its escape instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def plain(text: object) -> str:
    """Text from elsewhere, without what a terminal would obey."""
    return _CONTROLS.sub("\ufffd", str(text))


def moment(text: object) -> str:
    """A time of the server for a person: UTC, to the second; empty where there is none."""
    try:
        at = datetime.fromisoformat(str(text or ""))
        return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at.tzinfo else plain(text)
    except (ValueError, OverflowError):
        return plain(text or "")


def out(text: str) -> None:
    """A line of the result, on stdout."""
    sys.stdout.write(text + "\n")


def out_json(document: Any) -> None:
    """The result for a program, on stdout: one line when piped, indented on a terminal."""
    out(json_text(document, indent=2 if sys.stdout.isatty() else None))


def err(text: str) -> None:
    """A message for the person, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def err_json(document: Any) -> None:
    """A message for a program, on stderr, in one line."""
    err(json_text(document))


def json_text(document: Any, *, indent: int | None = None) -> str:
    """JSON in which nothing is left that a terminal would obey."""
    # Where the stream is not UTF-8, escapes are the only form that stays JSON.
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def watched() -> bool:
    """Whether a person sees stderr, so that progress bars make sense."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def can_ask(no_input: bool) -> bool:
    """Whether a question may be asked."""
    return not no_input and sys.stdin.isatty() and sys.stderr.isatty()


def styled(text: str, style: str, *, stdout: bool = False) -> str:
    """The text in a style of this module, or as it is where colour is not wanted."""
    stream = sys.stdout if stdout else sys.stderr
    if not text or "NO_COLOR" in os.environ or not stream.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def console(*, stderr: bool) -> Console:
    """A rich console; rich is imported here because plain output need not pay for its start."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
