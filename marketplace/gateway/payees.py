"""Who is paid for a call: never the zero address, from which nobody could claim it."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings

from inframind.lib.addresses import checksum_address
from inframind.lib.secp256k1 import address_of_key
from marketplace.gateway.batches import signer

ZERO_ADDRESS = f"0x{0:040x}"


def owner_payee(payout_address: str, owner: str) -> str:
    """Who gets the owner's share: what the terms say, the owner where they name nobody."""
    return owner if payout_address == ZERO_ADDRESS else payout_address


def node_payee(operator: str) -> str:
    """Who gets the node's share: its operator, or whoever runs this server for its own nodes."""
    return operator if operator != ZERO_ADDRESS else house_payee()


def house_payee() -> str:
    """The address of whoever runs this server. Raises ValueError for settings that hold none."""
    if settings.HOUSE_PAYOUT_ADDRESS:
        return _checked(settings.HOUSE_PAYOUT_ADDRESS)
    return _account_of(settings.CHAIN_KEY) if settings.CHAIN_KEY else signer()


@lru_cache(maxsize=2)
def _checked(address: str) -> str:
    return checksum_address(address)


@lru_cache(maxsize=2)
def _account_of(key: str) -> str:
    return address_of_key(bytes.fromhex(key.removeprefix("0x")))
