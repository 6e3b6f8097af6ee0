"""Transactions that wallets sign themselves: handed out unsigned, checked and passed on signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from billing.payouts import onchain
from inframind.chain import signing
from inframind.chain.client import CallReverted, ChainUnavailable
from inframind.chain.contracts import Contracts
from inframind.identity.models import Wallet
from inframind.lib import calldata
from inframind.lib.problem import Problem

GAS_MAX: Final = 16_000_000  # below the limit of a block on every chain that we know


@dataclass(frozen=True)
class UnsignedTransaction:
    """An EIP-1559 transaction for a wallet to check and sign. Fees are in wei per gas; ``what``
    says in words what it does."""

    to: str
    data: bytes
    value: int
    chain_id: int
    nonce: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int
    what: str

    def as_document(self) -> dict[str, Any]:
        """As JSON; ``transaction`` is what wallets and eth-account take, numbers as 0x and hex."""
        return {
            "what": self.what,
            "transaction": {
                "type": "0x2",
                "chainId": hex(self.chain_id),
                "nonce": hex(self.nonce),
                "to": self.to,
                "data": "0x" + self.data.hex(),
                "value": hex(self.value),
                "gas": hex(self.gas),
                "maxFeePerGas": hex(self.max_fee_per_gas),
                "maxPriorityFeePerGas": hex(self.max_priority_fee_per_gas),
            },
        }


@dataclass(frozen=True)
class Wanted:
    """A call to be made. ``gas``: where it cannot be estimated yet, since another comes first."""

    to: str
    data: bytes
    what: str
    gas: int | None = None


def unsigned(contracts: Contracts, sender: str, wanted: list[Wanted]) -> list[UnsignedTransaction]:
    """Ready to be signed by ``sender``, in this order, from its next nonce on.

    Raises ``ChainUnavailable``, and ``CallReverted`` for what the contract would refuse.
    """
    chain = contracts.chain
    nonce = chain.nonce_of(sender, pending=True)
    fees = chain.fees()
    made = []
    for position, each in enumerate(wanted):
        gas = each.gas
        if gas is None:
            estimated = chain.estimate(sender=sender, to=each.to, data=each.data)
            gas = onchain.gas_limit(estimated)
        made.append(
            UnsignedTransaction(
                to=each.to,
                data=each.data,
                value=0,
                chain_id=chain.chain_id,
                nonce=nonce + position,
                gas=gas,
                max_fee_per_gas=fees.max_fee_wei,
                max_priority_fee_per_gas=fees.priority_fee_wei,
                what=each.what,
            )
        )
    return made


def relay_signed(wallet: Wallet, raw: bytes) -> str:
    """Passes a transaction on that the wallet signed itself; its hash (0x and 64 digits).

    Only what InfraMind hands out: signed by this wallet, for this chain, with no value, to one of
    the two contracts, with call data of theirs in the usual form. Raises a 422 ``Problem``
    ``transaction-refused`` for anything else, 409 where the node refuses it, 503 without a chain.
    """
    with onchain.for_somebody() as contracts:
        presented = _checked(contracts, wallet, raw)
        if contracts.chain.knows(presented.hash):
            return presented.hash
        try:
            contracts.chain.estimate(
                sender=presented.sender, to=presented.to or "", data=presented.data
            )
        except CallReverted as error:
            # One that follows another of the same wallet may be refused only for now.
            if presented.nonce <= contracts.chain.nonce_of(presented.sender):
                raise onchain.refused(error) from None
        try:
            contracts.chain.send(raw)
        except CallReverted as error:
            raise onchain.refused(error) from None
        except ChainUnavailable as error:
            # It may have been taken all the same, by a node that answered too late.
            if contracts.chain.knows(presented.hash):
                return presented.hash
            if "refused the question" not in str(error):
                raise
            raise Problem(
                "transaction-refused",
                f"The chain does not take the transaction: {error}.",
                status=409,
                remedy="Ask for a fresh one and sign that; the nonce or the fee is outdated, or "
                "the wallet has too little ETH for the gas.",
            ) from None
        return presented.hash


def _checked(contracts: Contracts, wallet: Wallet, raw: bytes) -> signing.Presented:
    try:
        presented = signing.read(raw)
    except ValueError as error:
        raise _refused(str(error)) from None
    if presented.sender != wallet.address:
        raise _refused(
            f"It is signed by {presented.sender}, and you are signed in as {wallet.address}."
        )
    if presented.chain_id != settings.CHAIN_ID:
        raise _refused(
            f"It is for chain {presented.chain_id}, and this one is {settings.CHAIN_ID}."
        )
    if presented.value_wei:
        raise _refused("It sends ETH along, which no transaction of InfraMind does.")
    allowed = {contracts.ifm: calldata.OF_IFM, contracts.settlement: calldata.OF_SETTLEMENT}
    if presented.to not in allowed:
        raise _refused(f"It goes to {presented.to or 'a new contract'}, which is none of ours.")
    try:
        call = calldata.read(presented.data)
    except ValueError as error:
        raise _refused(str(error)) from None
    if call.function not in allowed[presented.to]:
        raise _refused(f"{call.function} is not to be called at {presented.to}.")
    if call.function == "approve" and call.arguments["spender"] != contracts.settlement:
        raise _refused(
            f"It lets {call.arguments['spender']} take IFM, which is not the settlement contract."
        )
    if presented.gas > GAS_MAX:
        raise _refused(f"It asks for {presented.gas} gas; {GAS_MAX} is the most.")
    return presented


def _refused(detail: str) -> Problem:
    return Problem(
        "transaction-refused",
        f"The transaction is not passed on. {detail}",
        status=422,
        remedy="Ask for the transaction again, sign it unchanged, and send that.",
    )
