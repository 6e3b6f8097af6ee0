"""Paid models, funded wallets, calls at once, and what the books say of it all."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F

from billing.ledger import leases
from billing.ledger import queries as ledger
from billing.ledger.models import Account, Lease, Reason
from billing.ledger.services import Posting, post
from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from inframind.lib.amounts import parse_ifm
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway import loop, pipeline
from marketplace.gateway.models import Call
from marketplace.gateway.receipts import CallReceipts

from ..mesh.serving import fresh_name, list_doubler

GUEST = "0x3333333333333333333333333333333333333333"
FEE = parse_ifm("0.25 IFM")


def paid_doubler(fee_base_units: int = FEE) -> Version:
    """A doubler that costs something."""
    version = list_doubler(fresh_name("doubler"))
    Version.objects.filter(pk=version.pk).update(fee_base_units=fee_base_units)
    return Version.objects.get(pk=version.pk)


def fund(address: str, amount_base_units: int) -> None:
    """Deposits into a wallet's balance."""
    Wallet.objects.of(address)
    post(
        [
            Posting(
                id=new_uuid7(),
                debit="chain",
                credit=f"wallet:{address}",
                amount_base_units=amount_base_units,
                reason=Reason.DEPOSIT,
            )
        ]
    )


def token_of(address: str = GUEST, **wish: Any) -> str:
    given: dict[str, Any] = {"name": "test", "actions": ["invoke"], "lifetime": timedelta(hours=1)}
    return mint_token(wallet=Wallet.objects.of(address), **{**given, **wish})[1]


def request_of(
    name: str, token: str | None, document: Any = None, **wish: Any
) -> pipeline.CallRequest:
    body = document if isinstance(document, bytes) else json.dumps(document or {"values": [1]})
    given: dict[str, Any] = {
        "call_id": new_uuid7(),
        "name": name,
        "number": None,
        "body": body if isinstance(body, bytes) else body.encode(),
        "bearer": token,
        "budget_base_units": None,
        "remote_address": "127.0.0.1",
        "deadline_seconds": 20,
    }
    return pipeline.CallRequest(**{**given, **wish})


def at_once(requests: list[pipeline.CallRequest]) -> list[pipeline.CallAnswer]:
    async def run() -> list[pipeline.CallAnswer]:
        return list(await asyncio.gather(*map(pipeline.call, requests)))

    return loop.submit(run(), 120)


def answer_of(request: pipeline.CallRequest) -> pipeline.CallAnswer:
    return at_once([request])[0]


def kinds(answers: list[pipeline.CallAnswer]) -> Counter[str]:
    return Counter(
        "served" if each.status == 200 else json.loads(each.document)["type"] for each in answers
    )


def idle() -> None:
    """Ends this process's loop, as a process ends that is told to: its purses are emptied."""
    loop.stop()


def swept() -> None:
    """Lets every lease expire that nobody could give back, and brings them home."""
    Lease.objects.update(expires_at=F("expires_at") - timedelta(hours=1))
    leases.sweep()


def balance(address: str = GUEST) -> int:
    return ledger.balance_of(address).balance_base_units


def spent(address: str = GUEST) -> int:
    """What the wallet's calls cost, by their rows."""
    return sum(int(row.fee_base_units) for row in Call.objects.filter(wallet=address))


def books_are_right() -> None:
    """Every account's caches against its facts, with no lease left."""
    assert not Lease.objects.exists()
    owed = CallReceipts().unposted()
    for account in Account.objects.filter(kind="wallet"):
        assert int(account.leased_base_units) == 0
        assert int(account.charged_base_units) == owed.get(account.wallet_id or "", 0)


def call_of(answer: pipeline.CallAnswer) -> Call:
    return Call.objects.get(pk=UUID(answer.headers["Inframind-Receipt"]))


def rows(statement: str, parameters: Any = ()) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        found: list[Any] = cursor.fetchall()
    return found
