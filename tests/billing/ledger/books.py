"""What the ledger's tests share: wallets with money, and connections of their own."""

from __future__ import annotations

from uuid import uuid4

from billing.ledger import codes, services
from billing.ledger.models import Account, Reason
from billing.ledger.services import Posting

ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
WALLET = codes.wallet_code(ADDRESS)
OTHER_WALLET = codes.wallet_code(OTHER)


def posting(debit: str, credit: str, amount: int, subject: str = "") -> Posting:
    return Posting(uuid4(), debit, credit, amount, Reason.GRANT, subject)


def give(address: str, amount: int) -> None:
    services.post([posting("chain", codes.wallet_code(address), amount)])


def sums(code: str) -> tuple[int, int, int, int]:
    """posted, held, leased, charged"""
    found = Account.objects.get(code=code)
    return (
        int(found.posted_base_units),
        int(found.held_base_units),
        int(found.leased_base_units),
        int(found.charged_base_units),
    )
