"""Transactions: signed with our key, and those that wallets signed, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from inframind.chain.errors import ChainUnavailable
from inframind.lib.addresses import checksum_address
from inframind.lib.secp256k1 import address_of_key

RAW_BYTES_MAX: Final = 131_072  # no node takes more


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction ready to be sent."""

    raw: bytes
    hash: str


@dataclass(frozen=True, slots=True)
class Presented:
    """A transaction that somebody signed. ``to`` is None where it makes a contract."""

    hash: str
    sender: str
    chain_id: int | None
    to: str | None
    value_wei: int
    data: bytes
    nonce: int
    gas: int


def sign(
    key: bytes,
    *,
    chain_id: int,
    nonce: int,
    to: str,
    data: bytes,
    value_wei: int,
    gas: int,
    max_fee_wei: int,
    priority_fee_wei: int,
) -> Signed:
    """A signed transaction (EIP-1559). The same fields give the same bytes, whoever asks again."""
    from eth_account import Account

    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": chain_id,
            "nonce": nonce,
            "to": to,
            "data": data,
            "value": value_wei,
            "gas": gas,
            "maxFeePerGas": max_fee_wei,
            "maxPriorityFeePerGas": priority_fee_wei,
            "accessList": [],
        },
        key,
    )
    return Signed(bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex())


def read(raw: bytes) -> Presented:
    """What a wallet signed: legacy with a chain id, or EIP-1559, without an access list.

    Raises ``ValueError`` in words for anything else.
    """
    import rlp  # type: ignore[import-untyped]
    from eth_account import Account
    from eth_utils.crypto import keccak

    if not 0 < len(raw) <= RAW_BYTES_MAX:
        raise ValueError(f"A signed transaction has 1 to {RAW_BYTES_MAX} bytes, not {len(raw)}.")
    is_legacy = raw[0] >= 0xC0
    if not is_legacy and raw[0] != 2:
        raise ValueError(f"Transactions of type {raw[0]} are not relayed: sign one of type 2.")
    try:
        fields: Any = rlp.decode(raw if is_legacy else raw[1:])
        if len(fields) != (9 if is_legacy else 12):
            raise ValueError("It has another number of fields.")
        sender = checksum_address(Account.recover_transaction(raw))
        if is_legacy:
            nonce, _, gas, to, value, data, v = fields[:7]
            chain_id = (_whole(v) - 35) // 2 if _whole(v) >= 35 else None
        else:
            chain_id = _whole(fields[0])
            nonce, _, _, gas, to, value, data, access = fields[1:9]
            if access:
                raise ValueError("It has an access list.")
        if any(isinstance(each, list) for each in (nonce, gas, to, value, data)):
            raise ValueError("A field is a list.")
        return Presented(
            hash="0x" + bytes(keccak(raw)).hex(),
            sender=sender,
            chain_id=chain_id,
            to=checksum_address("0x" + to.hex()) if to else None,
            value_wei=_whole(value),
            data=bytes(data),
            nonce=_whole(nonce),
            gas=_whole(gas),
        )
    # The libraries below raise whatever they stumble over, and this comes from strangers.
    except Exception as error:
        raise ValueError(f"This is no signed transaction: {str(error)[:200]}") from None


def key_of(text: str) -> bytes:
    """A private key written in hexadecimal. Raises ``ChainUnavailable`` where it is none."""
    try:
        key = bytes.fromhex(text.removeprefix("0x"))
        address_of_key(key)
        return key
    except ValueError:
        pass
    raise ChainUnavailable("CHAIN_KEY is no private key: it takes 0x and 64 hexadecimal digits")


def _whole(octets: bytes) -> int:
    return int.from_bytes(octets, "big")
