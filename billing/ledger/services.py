"""Moving money. Every service takes a batch, does all of it or nothing, and twice is as once.

All lock the accounts they touch in the order of their ids before they write anything, so two
batches wait for each other. Whoever calls several in one transaction has to see to the order.
"""

from billing.ledger.accounts import locked, set_day_limit
from billing.ledger.holds import HoldRequest, Settling, expire_due, hold, release, settle, void
from billing.ledger.refusals import InsufficientFunds
from billing.ledger.transfers import Posting, post, transfer_id

__all__ = [
    "HoldRequest",
    "InsufficientFunds",
    "Posting",
    "Settling",
    "expire_due",
    "hold",
    "locked",
    "post",
    "release",
    "set_day_limit",
    "settle",
    "transfer_id",
    "void",
]
