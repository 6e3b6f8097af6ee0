"""Holding the gateway's loop, for calls that are to be late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from marketplace.gateway import loop


@contextmanager
def held_up() -> Iterator[None]:
    """No call comes any further within."""
    held, over = threading.Event(), threading.Event()

    async def hold() -> None:
        held.set()
        over.wait(30)

    holding = threading.Thread(target=lambda: loop.submit(hold(), 60))
    holding.start()
    assert held.wait(30)
    try:
        yield
    finally:
        over.set()
        holding.join()
