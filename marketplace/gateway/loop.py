"""One long-lived event loop per process, where every call runs: the server's own where it serves
calls itself, else one in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final, TypeVar
from uuid import UUID

import uvloop
from django.db import connections

from inframind.lib.problem import Problem
from marketplace.gateway import resources
from marketplace.mesh import asyncdb

Result = TypeVar("Result")
_STOP_SECONDS: Final = 20.0

_lock = threading.Lock()
# The loop, and the thread that was made for it: none for a loop that was adopted.
_running: tuple[asyncio.AbstractEventLoop, threading.Thread | None] | None = None


def submit(
    work: Coroutine[Any, Any, Result], timeout_seconds: float, *, call_id: UUID | None = None
) -> Result:
    """Runs a coroutine on the loop and waits for its result, from any thread but the loop's own.

    What is not done in time goes on to its end (its row is still written, its fee still charged);
    the caller gets a 504 ``Problem`` that says so, and names the receipt of the call ``call_id``.
    """
    _give_back_connections()
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result(timeout_seconds)
    except FutureTimeout:
        if future.done():
            # It came to its end in the very moment, or with a timeout of its own.
            return future.result()
        raise Problem(
            "timed-out",
            "The call did not come to an end in time: whether it still does, and is charged, is "
            "not known yet. If it was charged, its receipt says so.",
            status=504,
            remedy="Look at the receipt that Inframind-Receipt names before you try again.",
            charged=None,
            headers={"Inframind-Receipt": str(call_id)} if call_id else {},
        ) from None


def _give_back_connections() -> None:
    # Fronts that kept theirs while they wait would starve the calls they wait for.
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def adopt() -> None:
    """Makes the running loop the one where calls run.

    Raises ``RuntimeError`` where there is one.
    """
    global _running
    with _lock:
        if _running is not None:
            raise RuntimeError("This process has a loop for calls already.")
        _running = (asyncio.get_running_loop(), None)


async def release() -> None:
    """Closes what was opened on the adopted loop, which runs on; leases go back."""
    global _running
    with _lock:
        if _running is None or _running[0] is not asyncio.get_running_loop():
            return
        _running = None
    await resources.aclose()
    await asyncio.to_thread(asyncdb.close_threads)


def stop() -> None:
    """Ends the loop with everything opened on it. A later ``submit`` starts another.

    An adopted loop is its server's to end, by ``release``.
    """
    global _running
    with _lock:
        loop, thread = _running or (None, None)
        if loop is None or thread is None:
            return
        _running = None
    asyncio.run_coroutine_threadsafe(resources.aclose(), loop).result(_STOP_SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_STOP_SECONDS)
    asyncdb.close_threads()


def _loop() -> asyncio.AbstractEventLoop:
    global _running
    with _lock:
        if _running is None or not _alive(_running[1]):
            loop = uvloop.new_event_loop()
            thread = threading.Thread(target=_run, args=(loop,), name="gateway-loop", daemon=True)
            thread.start()
            _running = (loop, thread)
        return _running[0]


def _alive(thread: threading.Thread | None) -> bool:
    return thread is None or thread.is_alive()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


atexit.register(stop)
