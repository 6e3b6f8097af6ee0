"""The recorder's own connection: a batch goes down it as one statement that commits by itself.

A pool, a transaction around it and a general adapter of parameters take longer than all the rest of
writing a call down. What the statement needs to know of the database it does not ask for: a lane
guesses it by what the last batch was told, and the database refuses what was guessed wrong.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import psycopg
from psycopg import AsyncConnection, errors, pq

from marketplace.gateway import binary
from marketplace.gateway.batches import PARAMETERS
from marketplace.mesh import asyncdb

# Whoever holds a row that one call needs keeps the others of its batch up no longer than this.
LOCK_SECONDS: Final = 2
CONNECT_SECONDS: Final = 5
# Beyond that a guess of the time is more likely wrong than right, and costs a round trip.
GUESS_SECONDS: Final = 300.0
# Guesses stay behind the database's clock by a thousandth, which no clock is slewed by.
_PACE_US_PER_SECOND: Final = 999_000
_NAME: Final = b"gateway_record"
_ARGUMENTS: Final = PARAMETERS + 2  # the leases and what is charged to them
_PREPARE: Final = (
    f"PREPARE gateway_record AS "
    f"SELECT gateway_record({', '.join(f'${number + 1}' for number in range(_ARGUMENTS))})"
)
_FORMATS: Final = [pq.Format.BINARY] * _ARGUMENTS
_REFUSED: Final = b"IM001"


class Refused(Exception):
    """Nothing was written: something was guessed wrong, or a lease did not take its charge."""


class Guess(NamedTuple):
    """What a batch is made for: the open epoch, the version of the parameters, the time."""

    epoch: int
    parameters_version: int
    time_us: int


@dataclass(eq=False)
class Lane:
    """One connection, used by one batch at a time."""

    _connection: AsyncConnection | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _socket: int = -1
    _answer: asyncio.Future[bytes] | None = None
    _results: list[pq.abc.PGresult] = field(default_factory=list)
    _epoch: tuple[int, int] | None = None  # with the version of the parameters
    _told_us: int = 0
    _told_at: float = 0.0  # by the monotonic clock
    _opening: bool = False

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return self._answer is not None or self._opening

    def learn(self, epoch: int, parameters_version: int, time_us: int) -> None:
        """Takes note of what the database has just said."""
        self._epoch = epoch, parameters_version
        self._told_us, self._told_at = time_us, time.monotonic()

    def guess(self) -> Guess | None:
        """What probably holds at the database now; None where that is not known."""
        since = time.monotonic() - self._told_at
        if self._epoch is None or since > GUESS_SECONDS:
            return None
        return Guess(*self._epoch, self._told_us + int(since * _PACE_US_PER_SECOND))

    async def open(self) -> None:
        """Connects where it is not connected. Raises ``psycopg.OperationalError``."""
        if self._connection is not None:
            return
        self._opening = True
        try:
            connection = await AsyncConnection.connect(
                asyncdb.conninfo(), autocommit=True, connect_timeout=CONNECT_SECONDS
            )
            try:
                await connection.execute(f"SET lock_timeout TO '{LOCK_SECONDS}s'")
                await connection.execute(_PREPARE)
            except BaseException:
                await connection.close()
                raise
        finally:
            self._opening = False
        # From here on nothing but this lane waits for the socket.
        self._connection, self._socket = connection, connection.fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._read)

    async def record(self, parameters: Sequence[bytes]) -> None:
        """Has the database write a batch; durable once it returns.

        ``parameters`` are those of the function ``gateway_record``, in binary; the lane is open.
        Raises ``Refused``, ``psycopg.Error``.
        """
        connection, loop = self._connection, self._loop
        if connection is None or loop is None or self._answer is not None:
            raise psycopg.InterfaceError("The connection is closed, or in use.")
        answer = self._answer = loop.create_future()
        try:
            connection.pgconn.send_query_prepared(_NAME, parameters, _FORMATS, pq.Format.BINARY)
            if connection.pgconn.flush():
                loop.add_writer(self._socket, self._write)
            told = await answer
        except BaseException:
            # What may still come back must not be taken for the answer to another batch.
            if answer.cancelled() or not answer.done():
                self._drop()
            raise
        finally:
            self._answer = None
            self._results.clear()
        self._told_us, self._told_at = binary.unix_us(told), time.monotonic()

    async def aclose(self) -> None:
        """Closes the connection; a batch that is under way is not known to be written."""
        self._lose(psycopg.OperationalError("The connection was closed."))

    def _read(self) -> None:
        if self._connection is None:
            return
        server = self._connection.pgconn
        try:
            server.consume_input()
            # Only the end of all results is behind the commit: it can fail after the first one.
            while self._answer is not None and not server.is_busy():
                result = server.get_result()
                if result is None:
                    self._end(self._answer)
                    break
                self._results.append(result)
            if server.status != pq.ConnStatus.OK:
                self._lose(psycopg.OperationalError("The database ended the connection."))
        except psycopg.OperationalError as error:
            self._lose(error)

    def _write(self) -> None:
        if self._connection is None or self._loop is None:
            return
        try:
            if not self._connection.pgconn.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.OperationalError as error:
            self._lose(error)

    def _end(self, answer: asyncio.Future[bytes]) -> None:
        if answer.done():
            return
        for result in self._results:
            if result.status != pq.ExecStatus.TUPLES_OK:
                answer.set_exception(self._error_of(result))
                return
        told = self._results[0].get_value(0, 0) if self._results else None
        if told is None:
            answer.set_exception(psycopg.InterfaceError("The database gave no answer."))
        else:
            answer.set_result(told)

    def _error_of(self, result: pq.abc.PGresult) -> Exception:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        if state == _REFUSED:
            return Refused(result.get_error_message())
        if state is None:
            # The client's own word for a connection that broke.
            return psycopg.OperationalError(result.get_error_message())
        return errors.error_from_result(result)

    def _lose(self, error: psycopg.OperationalError) -> None:
        answer = self._answer
        self._drop()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            connection.pgconn.finish()


_lanes: dict[asyncio.AbstractEventLoop, Lane] = {}


def here() -> Lane:
    """The lane of the running loop."""
    loop = asyncio.get_running_loop()
    lane = _lanes.get(loop)
    if lane is None:
        lane = _lanes[loop] = Lane()
    return lane


async def aclose() -> None:
    """Closes the running loop's lane."""
    lane = _lanes.pop(asyncio.get_running_loop(), None)
    if lane is not None:
        await lane.aclose()
