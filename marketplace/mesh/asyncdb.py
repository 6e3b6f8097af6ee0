"""Blocking work and database access beside one event loop: threads for the ORM, a pool beside.

Nothing here touches Django connections of other threads; what was opened is closed by ``aclose``
and ``close_threads``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

Result = TypeVar("Result")

READ_THREADS: Final = 4
PLACING_THREADS: Final = 4
POOL_CONNECTIONS: Final = 6
POOL_WAIT_SECONDS: Final = 5.0

_lock = threading.Lock()
_executors: dict[str, ThreadPoolExecutor] = {}
_opened: dict[int, BaseDatabaseWrapper] = {}
_pools: dict[asyncio.AbstractEventLoop, AsyncConnectionPool[AsyncConnection]] = {}


async def in_thread(work: Callable[..., Result], *arguments: Any, slow: bool = False) -> Result:
    """Runs blocking code that may use the ORM. Slow work has threads of its own."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_executor(slow), _with_connections, work, arguments)


@asynccontextmanager
async def connection() -> AsyncIterator[AsyncConnection]:
    """An autocommit connection of this loop's pool. Raises ``psycopg.OperationalError``."""
    pool = await _pool()
    async with pool.connection(timeout=POOL_WAIT_SECONDS) as opened:
        yield opened


async def aclose() -> None:
    """Closes this loop's pool; ``close_threads`` follows once the loop has stopped."""
    pool = _pools.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.close()


def close_threads() -> None:
    """Ends the threads with their connections. Not on a loop: Django refuses to close there."""
    with _lock:
        executors = list(_executors.values())
        _executors.clear()
    for executor in executors:
        executor.shutdown(wait=True)
    for opened in list(_opened.values()):
        opened.inc_thread_sharing()
        opened.close()
    _opened.clear()


def _executor(slow: bool) -> ThreadPoolExecutor:
    name = "placing" if slow else "reads"
    with _lock:
        if name not in _executors:
            _executors[name] = ThreadPoolExecutor(
                PLACING_THREADS if slow else READ_THREADS, thread_name_prefix=f"gateway-{name}"
            )
        return _executors[name]


def _with_connections(work: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    close_old_connections()
    try:
        return work(*arguments)
    finally:
        opened = connections["default"]
        _opened[threading.get_ident()] = opened
        close_old_connections()


async def _pool() -> AsyncConnectionPool[AsyncConnection]:
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = AsyncConnectionPool(
            conninfo(),
            min_size=1,
            max_size=POOL_CONNECTIONS,
            kwargs={"autocommit": True},
            open=False,
            name="gateway",
        )
        # Set before the first await, so that two tasks do not open two pools.
        _pools[loop] = pool
        await pool.open()
    return pool


def conninfo() -> str:
    """How this process reaches its database, as libpq takes it; with the password."""
    given = connections["default"].settings_dict
    parameters = {
        "dbname": given["NAME"],
        "user": given["USER"],
        "password": given["PASSWORD"],
        "host": given["HOST"],
        "port": given["PORT"],
        **{key: value for key, value in given["OPTIONS"].items() if isinstance(value, str)},
    }
    return make_conninfo(**{key: value for key, value in parameters.items() if value})
