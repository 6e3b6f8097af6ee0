"""Prepaid balance for the demo's wallets: test IFM from the faucet, deposited as anybody would."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from eth_account import Account
from eth_account.hdaccount import ETHEREUM_DEFAULT_PATH

from billing.ledger.queries import balance_of
from billing.payouts import services as payouts
from billing.payouts.models import Transaction
from billing.payouts.transactions import UnsignedTransaction
from inframind.chain.signing import sign
from inframind.devstack.chain import MNEMONIC
from inframind.identity.models import Wallet
from inframind.lib.amounts import format_ifm

DEPOSIT_BASE_UNITS: Final = 50 * 10**18
# Below this there is another deposit; a demo's seeding costs less.
LOW_BASE_UNITS: Final = 20 * 10**18
DEADLINE_SECONDS: Final = 60


def fund(wallet: Wallet, *, account: int, say: Callable[[str], None]) -> None:
    """Deposit for a wallet that has little left; ``account`` is its number in the mnemonic.

    Returns when the deposit is credited. Raises TimeoutError after a minute.
    """
    if balance_of(wallet.pk).available_base_units >= LOW_BASE_UNITS:
        return
    gift = payouts.faucet(wallet)
    _await("the faucet's IFM", lambda: _is_confirmed(gift))
    for unsigned in payouts.unsigned_deposit(wallet, DEPOSIT_BASE_UNITS):
        payouts.relay_signed(wallet, _signed(unsigned, account))
    _await("the deposit", lambda: balance_of(wallet.pk).available_base_units >= LOW_BASE_UNITS)
    say(f"deposited {format_ifm(DEPOSIT_BASE_UNITS)} for {wallet.pk}")


def _await(what: str, is_there: Callable[[], bool]) -> None:
    """Do here and now what a worker does every two seconds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not arrive; see var/log/worker.log.")
        payouts.send_due()
        payouts.follow()
        time.sleep(0.1)


def _is_confirmed(gift: Transaction) -> bool:
    gift.refresh_from_db()
    return gift.state == Transaction.State.CONFIRMED


def _signed(unsigned: UnsignedTransaction, account: int) -> bytes:
    """As the wallet signs what the API hands out."""
    Account.enable_unaudited_hdwallet_features()
    path = f"{ETHEREUM_DEFAULT_PATH.removesuffix('0')}{account}"
    return sign(
        bytes(Account.from_mnemonic(MNEMONIC, account_path=path).key),
        chain_id=unsigned.chain_id,
        nonce=unsigned.nonce,
        to=unsigned.to,
        data=unsigned.data,
        value_wei=unsigned.value,
        gas=unsigned.gas,
        max_fee_wei=unsigned.max_fee_per_gas,
        priority_fee_wei=unsigned.max_priority_fee_per_gas,
    ).raw
