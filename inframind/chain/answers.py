"""What a node answers, read strictly: anything that is not what was asked for is ``ChainLies``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from inframind.chain.errors import ChainLies
from inframind.lib.addresses import checksum_address

_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]{1,64}", re.ASCII)
_OCTETS: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)
_HASH: Final = re.compile(r"0x[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Block:
    """A block's header: hashes as 0x and 64 lower case digits, time in unix seconds."""

    number: int
    hash: str
    parent_hash: str
    time: int
    base_fee_wei: int


@dataclass(frozen=True, slots=True)
class Log:
    """What a contract said in a transaction that was mined."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: str
    transaction_hash: str
    index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a transaction that was mined went."""

    transaction_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    logs: tuple[Log, ...]


def quantity(value: Any) -> int:
    """A number in hexadecimal."""
    if not isinstance(value, str) or _QUANTITY.fullmatch(value) is None:
        raise ChainLies(f"the node answered {_shown(value)} where a number belongs")
    return int(value, 16)


def octets(value: Any) -> bytes:
    """Bytes in hexadecimal."""
    if not isinstance(value, str) or _OCTETS.fullmatch(value) is None:
        raise ChainLies(f"the node answered {_shown(value)} where bytes belong")
    return bytes.fromhex(value[2:])


def hash_of(value: Any) -> str:
    """A 32-byte hash, in lower case."""
    text = value.lower() if isinstance(value, str) else ""
    if _HASH.fullmatch(text) is None:
        raise ChainLies(f"the node answered {_shown(value)} where a hash belongs")
    return text


def address(value: Any) -> str:
    """A checksummed address."""
    try:
        return checksum_address(value)
    except (ValueError, AttributeError):
        raise ChainLies(f"the node answered {_shown(value)} where an address belongs") from None


def block(value: Any) -> Block:
    """A block's header."""
    found = _document(value, "a block")
    return Block(
        number=quantity(found.get("number")),
        hash=hash_of(found.get("hash")),
        parent_hash=hash_of(found.get("parentHash")),
        time=quantity(found.get("timestamp")),
        base_fee_wei=quantity(found.get("baseFeePerGas", "0x0")),
    )


def log(value: Any) -> Log:
    """One log, of a block that is in the chain."""
    found = _document(value, "a log")
    if found.get("removed", False) is not False:
        raise ChainLies("the node answered with a log that a reorganisation removed")
    return Log(
        address=address(found.get("address")),
        topics=tuple(_topic(each) for each in _list(found.get("topics"), "topics")),
        data=octets(found.get("data")),
        block_number=quantity(found.get("blockNumber")),
        block_hash=hash_of(found.get("blockHash")),
        transaction_hash=hash_of(found.get("transactionHash")),
        index=quantity(found.get("logIndex")),
    )


def logs(value: Any) -> list[Log]:
    """Many logs."""
    return [log(each) for each in _list(value, "logs")]


def receipt(value: Any) -> Receipt:
    """A receipt of a transaction."""
    found = _document(value, "a receipt")
    status = quantity(found.get("status"))
    if status not in (0, 1):
        raise ChainLies(f"the node answered with a receipt of status {status}")
    return Receipt(
        transaction_hash=hash_of(found.get("transactionHash")),
        block_number=quantity(found.get("blockNumber")),
        block_hash=hash_of(found.get("blockHash")),
        succeeded=status == 1,
        logs=tuple(logs(found.get("logs"))),
    )


def _topic(value: Any) -> bytes:
    return bytes.fromhex(hash_of(value)[2:])


def _document(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ChainLies(f"the node answered {_shown(value)} where {what} belongs")
    return value


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ChainLies(f"the node answered {_shown(value)} where {what} belong")
    return value


def _shown(value: Any) -> str:
    return repr(value)[:80]
