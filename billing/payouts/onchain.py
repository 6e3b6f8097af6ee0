"""The chain as the settings name it, and how its absence is told to those who ask for something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from django.conf import settings

from inframind.chain.client import CallReverted, ChainUnavailable, chain_at
from inframind.chain.contracts import Contracts
from inframind.chain.signing import key_of
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem
from inframind.lib.secp256k1 import address_of_key

log = structlog.get_logger(__name__)

_GAS_MARGIN_NUMERATOR, _GAS_MARGIN_DENOMINATOR = 13, 10
# IFM counts votes by block: estimated in a block that both sides have moved in already, a transfer
# overwrites two checkpoints, and in the next block it adds two.
_CHECKPOINTS_GAS: Final = 60_000


def configured() -> bool:
    """Whether the settings name a chain and both contracts."""
    return bool(settings.ETH_RPC_URL and settings.IFM_ADDRESS and settings.SETTLEMENT_ADDRESS)


def can_send() -> bool:
    """Whether there is also a key to send with."""
    return configured() and bool(settings.CHAIN_KEY)


def contracts() -> Contracts:
    """Both contracts. Raises ``ChainUnavailable`` where the settings do not name them."""
    if not configured():
        raise ChainUnavailable(
            "no chain is configured: ETH_RPC_URL, IFM_ADDRESS and SETTLEMENT_ADDRESS name it"
        )
    try:
        ifm, settlement = (
            checksum_address(settings.IFM_ADDRESS),
            checksum_address(settings.SETTLEMENT_ADDRESS),
        )
    except ValueError as error:
        raise ChainUnavailable(f"the settings name no contract: {error}") from None
    return Contracts(chain_at(settings.ETH_RPC_URL, settings.CHAIN_ID), ifm, settlement)


def key() -> bytes:
    """Our private key. Raises ``ChainUnavailable`` where there is none."""
    if not settings.CHAIN_KEY:
        raise ChainUnavailable("no key is configured: CHAIN_KEY holds it")
    return key_of(settings.CHAIN_KEY)


def operator() -> str:
    """The address that proposes roots, signs vouchers and relays. Raises ``ChainUnavailable``."""
    return address_of_key(key())


def gas_limit(estimated: int) -> int:
    """The gas to allow for a transaction that was estimated at so much; the rest is not paid."""
    return estimated * _GAS_MARGIN_NUMERATOR // _GAS_MARGIN_DENOMINATOR + _CHECKPOINTS_GAS


@contextmanager
def for_somebody() -> Iterator[Contracts]:
    """Both contracts for a question of a user: what fails becomes a ``Problem`` 503
    ``chain-unavailable``, or 409 ``contract-refuses`` with the contract's words."""
    try:
        yield contracts()
    except ChainUnavailable as error:
        log.warning("chain unavailable", reason=str(error))
        raise unavailable() from None
    except CallReverted as error:
        raise refused(error) from None


def unavailable() -> Problem:
    """503: nothing was lost, and a later try is as good as this one."""
    return Problem(
        "chain-unavailable",
        "The chain cannot be reached at the moment. Nothing was sent and nothing has changed.",
        status=503,
        remedy="Try again in a minute; balances and earnings are kept meanwhile.",
        retry_safe=True,
        retry_after_seconds=30,
    )


def refused(error: CallReverted) -> Problem:
    """409: the contract says no, and would say so to the transaction as well."""
    return Problem(
        "contract-refuses",
        f"The contract refuses this: {error.words}.",
        status=409,
        remedy="Nothing was sent. Look at the balance and at what is under way, then try again.",
    )
