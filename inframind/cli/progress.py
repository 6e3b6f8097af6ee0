"""Progress bars of transfers, on stderr and only where a person watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from inframind.cli.terminal import console, watched

Advance = Callable[[int], None]


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
