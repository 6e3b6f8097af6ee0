"""Calls of the open epoch, signed and charged as the gateway does it, without a node to serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection
from django.db.models import F

from billing.epochs import opening
from billing.ledger.models import Account
from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway import batches

OPERATOR = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
DIGEST = f"sha256:{'ab' * 32}"


def row_of(
    version: Version,
    wallet: str | None,
    fee_base_units: int,
    *,
    served: bool = True,
    operator: str = OPERATOR,
    **more: Any,
) -> batches.Row:
    """A call to be recorded."""
    row = batches.Row(
        call_id=new_uuid7(),
        version_id=version.pk,
        model=str(version),
        cid=version.cid,
        wallet=wallet,
        token_id=None,
        node_id=None,
        node_name="node-a",
        outcome="served" if served else "model-failed",
        problem_code="" if served else "model-failed",
        attempts=1,
        fee_base_units=fee_base_units if served else 0,
        latency_us=41_200,
        node_latency_us=38_900,
        input_digest=DIGEST,
        output_digest=DIGEST if served else "",
        payout_address=version.payout_address,
        operator_address=operator,
    )
    return replace(row, **more)


def charge(*rows: batches.Row) -> list[UUID]:
    """Records the calls as one batch, charged to their wallets' balances; returns their ids."""
    epoch = opening.current()
    for row in rows:
        if row.wallet is not None:
            Wallet.objects.of(row.wallet)
            Account.objects.filter(code=f"wallet:{row.wallet}").update(
                charged_base_units=F("charged_base_units") + row.fee_base_units
            )
    sealed = batches.sealed(
        new_uuid7(),
        rows,
        epoch=epoch.number,
        parameters_version=opening.latest_parameters().version,
        time_us=batches.microseconds(opening.database_time()),
    )
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor:
        cursor.adapters.register_dumper(batches.Encoded, batches.EncodedDumper)
        cursor.execute(
            batches.WRITE,
            [batches.Encoded(each) for each in batches.parameters_of(sealed, rows)],
        )
    return [row.call_id for row in rows]
