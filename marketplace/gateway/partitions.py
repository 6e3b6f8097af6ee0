"""The table of calls is one partition per epoch: made ahead, and let go whole."""

from __future__ import annotations

from typing import Final

from django.db import connection, transaction

# Names this work among PostgreSQL's advisory locks.
_LOCK: Final = 0x6A11
# Detaching waits for no call that is being written, and makes none wait behind it for long.
_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout TO '5s'"


def prepare(epoch: int) -> None:
    """Makes the partition of an epoch where there is none. Safe twice, and twice at once."""
    name = name_of(epoch)
    with transaction.atomic(), connection.cursor() as cursor:
        if _is_attached(name):
            return
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if _is_attached(name):
            return
        # Built beside the table and then attached: no call waits for that.
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {name} (LIKE gateway_call INCLUDING ALL)")
        cursor.execute(
            f"ALTER TABLE gateway_call ATTACH PARTITION {name} FOR VALUES IN ({int(epoch)})"
        )


def drop(epoch: int) -> None:
    """Lets an epoch's calls go with their partition. Raises ``django.db.OperationalError`` where
    the table is too busy: then nothing has changed."""
    name = name_of(epoch)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_LOCK_TIMEOUT)
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if _is_attached(name):
            cursor.execute(f"ALTER TABLE gateway_call DETACH PARTITION {name}")
        cursor.execute(f"DROP TABLE IF EXISTS {name}")


def name_of(epoch: int) -> str:
    """The partition's table. Raises ValueError for what is no epoch of the books."""
    if epoch < 1:
        raise ValueError(f"{epoch} is no epoch of the books.")
    return f"gateway_call_{int(epoch)}"


def _is_attached(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(%s))", [name]
        )
        attached: bool = cursor.fetchone()[0]
    return attached
