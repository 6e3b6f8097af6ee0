"""The events of our contracts that the books care about, read from logs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from inframind.chain.answers import Log
from inframind.chain.artefacts import Contract, abi
from inframind.chain.errors import ChainLies
from inframind.lib.addresses import checksum_address

FOLLOWED: Final[dict[str, Contract]] = {
    "Deposited": "Settlement",
    "Claimed": "Settlement",
    "Withdrawn": "Settlement",
    "RootProposed": "Settlement",
    "RootRevoked": "Settlement",
    "DelegateChanged": "IFM",
}


@dataclass(frozen=True, slots=True)
class Happened:
    """An event and its arguments by name: addresses checksummed, amounts ints, words bytes."""

    name: str
    arguments: dict[str, Any]
    log: Log


def topics() -> list[bytes]:
    """The first topic of every event that is followed."""
    return list(_events())


def topic_of(name: str) -> bytes:
    """The first topic of one of them."""
    return next(topic for topic, entry in _events().items() if entry["name"] == name)


def read(log: Log, *, ifm: str, settlement: str) -> Happened | None:
    """The event; None where another contract said it than the one whose event it is.

    Raises ``ChainLies`` for a log that none of our contracts could have written.
    """
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    entry = _events().get(log.topics[0]) if log.topics else None
    if entry is None:
        raise ChainLies(f"log {log.index} of {log.transaction_hash} is none of our events")
    said_by = {"IFM": ifm, "Settlement": settlement}[FOLLOWED[entry["name"]]]
    if log.address != said_by:
        return None
    indexed = [each for each in entry["inputs"] if each["indexed"]]
    others = [each for each in entry["inputs"] if not each["indexed"]]
    try:
        if len(log.topics) != len(indexed) + 1:
            raise ValueError("it has another number of topics")
        values = {
            each["name"]: decode([each["type"]], topic)[0]
            for each, topic in zip(indexed, log.topics[1:], strict=True)
        }
        told = decode([each["type"] for each in others], log.data)
    except (DecodingError, ValueError) as error:
        raise ChainLies(
            f"log {log.index} of {log.transaction_hash} is no {entry['name']}: {error}"
        ) from None
    values |= {each["name"]: value for each, value in zip(others, told, strict=True)}
    for each in entry["inputs"]:
        if each["type"] == "address":
            values[each["name"]] = checksum_address(values[each["name"]])
    return Happened(entry["name"], values, log)


@lru_cache
def _events() -> dict[bytes, dict[str, Any]]:
    from eth_utils.crypto import keccak

    found = {}
    for contract in ("IFM", "Settlement"):
        for entry in abi(contract):
            if entry["type"] == "event" and FOLLOWED.get(entry["name"]) == contract:
                kinds = ",".join(each["type"] for each in entry["inputs"])
                found[bytes(keccak(text=f"{entry['name']}({kinds})"))] = entry
    return found
