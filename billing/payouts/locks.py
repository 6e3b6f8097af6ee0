"""One worker at a time: what two would only do in each other's way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.db import connection

FOLLOWING: Final = 0x1F3A_0101
SENDING: Final = 0x1F3A_0102
RELAYING: Final = 0x1F3A_0103


@contextmanager
def alone(work: int) -> Iterator[bool]:
    """Whether this connection has the work for itself until the block ends.

    It spares work and is no guarantee: a connection that breaks loses it unseen. What must not
    happen twice is kept from it by rows and constraints.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [work])
        got = bool(cursor.fetchone()[0])
    try:
        yield got
    finally:
        if got and connection.connection is not None and not connection.connection.closed:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [work])


def wait_for(work: int) -> None:
    """Has the work for the transaction at hand alone, once every other that has it is over."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [work])
