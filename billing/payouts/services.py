"""What is done between books and chain. Amounts are base units; refusals are ``Problem``s.

All is safe to ask for twice: rows with keys of their own, and the contract's cumulative amounts,
make it happen once.
"""

from billing.payouts.claims import relay_claim, unsigned_claim
from billing.payouts.deposits import faucet, permit_for, relay_deposit, unsigned_deposit
from billing.payouts.following import Followed, follow
from billing.payouts.queueing import publish_due, publish_root
from billing.payouts.resuming import resume
from billing.payouts.sending import Sending, send_due
from billing.payouts.transactions import UnsignedTransaction, relay_signed
from billing.payouts.withdrawals import (
    begin_withdrawal,
    expire_withdrawals,
    relay_withdrawal,
    unsigned_withdrawal,
)

__all__ = [
    "Followed",
    "Sending",
    "UnsignedTransaction",
    "begin_withdrawal",
    "expire_withdrawals",
    "faucet",
    "follow",
    "permit_for",
    "publish_due",
    "publish_root",
    "relay_claim",
    "relay_deposit",
    "relay_signed",
    "relay_withdrawal",
    "resume",
    "send_due",
    "unsigned_claim",
    "unsigned_deposit",
    "unsigned_withdrawal",
]
