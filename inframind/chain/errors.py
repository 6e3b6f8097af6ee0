"""How asking the chain fails, and what a contract's refusal says in words."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from inframind.chain.artefacts import abi

_PLAIN: Final = bytes.fromhex("08c379a0")  # Error(string)
_PANIC: Final = bytes.fromhex("4e487b71")  # Panic(uint256)


class ChainUnavailable(Exception):
    """The node does not answer, answers nonsense, or is on another chain. Says which."""


class ChainLies(ChainUnavailable):
    """The node's answers contradict each other, or what it said before. Says how."""


class CallReverted(Exception):
    """The contract refused the call. ``data`` is what it said, empty where the node keeps it."""

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data

    @property
    def words(self) -> str:
        """The custom error with its arguments, like ``RootPending(epoch 3, claimableAt 17…)``."""
        return words_of(self.data) or str(self)

    @property
    def name(self) -> str:
        """The custom error's name alone; empty where there is none."""
        found = _errors().get(self.data[:4])
        return found[0] if found else ""


def words_of(data: bytes) -> str:
    """What revert data says, by our contracts' custom errors; empty where it says nothing known."""
    from eth_abi.abi import decode
    from eth_abi.exceptions import DecodingError

    try:
        if data[:4] == _PLAIN:
            return str(decode(["string"], data[4:])[0])
        if data[:4] == _PANIC:
            return f"Panic({decode(['uint256'], data[4:])[0]})"
        found = _errors().get(data[:4])
        if found is None:
            return ""
        name, inputs = found
        values = decode([kind for _, kind in inputs], data[4:])
    except (DecodingError, UnicodeDecodeError):
        return ""
    shown = (
        f"{label} 0x{value.hex() if isinstance(value, bytes) else ''}"
        if isinstance(value, bytes)
        else f"{label} {value}"
        for (label, _), value in zip(inputs, values, strict=True)
    )
    return f"{name}({', '.join(shown)})"


@lru_cache
def _errors() -> dict[bytes, tuple[str, list[tuple[str, str]]]]:
    """Selector to the error's name and its arguments' names and types."""
    from eth_utils.crypto import keccak

    entries: list[dict[str, Any]] = [
        entry
        for contract in ("IFM", "Settlement")
        for entry in abi(contract)
        if entry["type"] == "error"
    ]
    found = {}
    for entry in entries:
        inputs = [(each["name"], each["type"]) for each in entry["inputs"]]
        signature = f"{entry['name']}({','.join(kind for _, kind in inputs)})"
        found[bytes(keccak(text=signature))[:4]] = (entry["name"], inputs)
    return found
