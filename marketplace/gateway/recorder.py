"""The one durable row of a call: written before its answer leaves."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import PoolTimeout

from inframind.identity import meters
from inframind.identity.caller import Caller
from inframind.lib.problem import Problem
from marketplace.mesh.asyncdb import connection

log = structlog.get_logger(__name__)

_INSERT: Final = """
    INSERT INTO gateway_call (
        id, version_id, wallet_id, token_id, node_id, node_name, outcome, problem_code, attempts,
        fee_base_units, latency_us, node_latency_us, input_digest, output_digest
    ) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


_AGAIN: Final[Any] = {
    "status": 503,
    "remedy": "Try again in a moment.",
    "retry_safe": True,
    "retry_after_seconds": 5,
}


@dataclass(frozen=True)
class Row:
    """A ``gateway.models.Call`` to be, ordered as ``_INSERT`` is; the database stamps its time."""

    call_id: UUID
    version_id: UUID
    wallet: str | None
    token_id: UUID | None
    node_id: UUID | None
    node_name: str
    outcome: str
    problem_code: str
    attempts: int
    fee_base_units: int
    latency_us: int
    node_latency_us: int
    input_digest: str
    output_digest: str


async def record(row: Row, *, held_by: Caller | None = None) -> None:
    """Commits the row, and with it what the call used of the limits it was held against.

    Raises a 503 ``Problem``: what is not written down is not delivered.
    """
    try:
        async with connection() as database:
            if held_by is None:
                await database.execute(_INSERT, astuple(row))
                return
            async with database.transaction():
                await meters.settle_on(
                    database,
                    held_by,
                    row.call_id,
                    served=row.outcome == "served",
                    fee_base_units=row.fee_base_units,
                )
                await database.execute(_INSERT, astuple(row))
    except (psycopg.Error, PoolTimeout) as error:
        log.exception("call not recorded", call=str(row.call_id), reason=type(error).__name__)
        raise Problem(
            "not-recorded",
            "The call could not be written down, so its result is not delivered.",
            **_AGAIN,
        ) from None


def no_database() -> Problem:
    """The 503 of a call that came no further than a database that does not answer."""
    return Problem("not-available", "The registry's database does not answer.", **_AGAIN)
