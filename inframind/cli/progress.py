"""What a person sees of a long wait, on stderr and only where somebody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from inframind.cli.terminal import console, watched

Advance = Callable[[int], None]
Say = Callable[[str], None]

_FIRST_PAUSE_SECONDS: Final = 0.3
_LONGEST_PAUSE_SECONDS: Final = 2.0


@contextmanager
def bar(label: str, total_bytes: int | None) -> Iterator[Advance]:
    """Gives a function to be called with the bytes that went on; None is an unknown total."""
    if not watched():
        yield lambda _: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console(stderr=True), transient=True) as shown:
        task = shown.add_task(label, total=total_bytes)
        yield lambda size_bytes: shown.advance(task, size_bytes)


@contextmanager
def spinner(text: str) -> Iterator[Say]:
    """Gives a function that changes the text which stands beside the spinner."""
    if not watched():
        yield lambda _: None
        return
    # As Text, because rich would read square brackets of a plain string as markup.
    from rich.text import Text

    status = console(stderr=True).status(Text(text), spinner="dots")
    with status:
        yield lambda text: status.update(Text(text))


def pauses(timeout_seconds: float) -> Iterator[None]:
    """Comes up at once, then after pauses that grow, until the time is over, once more at its end.

    For loops that ask a server until it has what they want.
    """
    deadline = time.monotonic() + timeout_seconds
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
