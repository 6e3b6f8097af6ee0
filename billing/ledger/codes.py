"""Codes of accounts: how they are written, and what kind of account each opens."""

from __future__ import annotations

import re
from typing import Final

from billing.ledger.models import Account
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem

CHAIN: Final = "chain"
TREASURY: Final = "treasury"

_EPOCH: Final = re.compile(r"epoch:(0|[1-9][0-9]{0,18})", re.ASCII)
_OWED: Final = re.compile(r"owed:(0x[0-9a-fA-F]{40}):0x[0-9a-f]{64}", re.ASCII)
_WALLET: Final = re.compile(r"wallet:(0x[0-9a-fA-F]{40})", re.ASCII)
_ESCROW: Final = re.compile(r"escrow:[!-~]{1,130}", re.ASCII)


def wallet_code(address: str) -> str:
    """The account of a wallet's prepaid balance. Raises ``ValueError`` for what is no address."""
    return f"wallet:{checksum_address(address)}"


def epoch_code(number: int) -> str:
    """The clearing account of an epoch's fees; it is empty again once they are shared."""
    return f"epoch:{number}"


def owed_code(address: str, stream: bytes) -> str:
    """What is owed to a payee by one stream (32 bytes). Raises ``ValueError`` for no address."""
    return f"owed:{checksum_address(address)}:0x{stream.hex()}"


def kind_of(code: str) -> Account.Kind:
    """The kind of account that a code names. Raises ``Problem`` 400 ``no-such-account``."""
    if code == CHAIN:
        return Account.Kind.CHAIN
    if code == TREASURY:
        return Account.Kind.TREASURY
    if _EPOCH.fullmatch(code):
        return Account.Kind.EPOCH
    if _ESCROW.fullmatch(code):
        return Account.Kind.ESCROW
    if (owed := _OWED.fullmatch(code)) and _is_checksummed(owed[1]):
        return Account.Kind.OWED
    if (wallet := _WALLET.fullmatch(code)) and _is_checksummed(wallet[1]):
        return Account.Kind.WALLET
    raise Problem(
        "no-such-account",
        f"{code!r} is not the code of an account.",
        remedy="Write chain, treasury, epoch:<number>, escrow:<what for>, wallet:<checksummed "
        "address> or owed:<checksummed address>:<0x and 64 hexadecimal digits>.",
    )


def address_of(code: str) -> str:
    """The address in the code of a wallet's account."""
    return code.removeprefix("wallet:")


def _is_checksummed(address: str) -> bool:
    return address == checksum_address(address.lower())
