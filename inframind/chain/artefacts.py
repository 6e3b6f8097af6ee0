"""The compiled contracts: what ``make contracts`` wrote beside their sources."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

Contract = Literal["IFM", "Settlement"]

FOLDER: Final = Path(__file__).resolve().parents[2] / "billing" / "contracts" / "artefacts"


@lru_cache
def artefact(name: Contract) -> dict[str, Any]:
    """The whole file: contract, abi, bytecode, deployed_bytecode, compiler, settings,
    source_sha256."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_bytes())
    return document


def abi(name: Contract) -> list[dict[str, Any]]:
    """The contract's interface: functions, events and errors as Solidity's JSON."""
    entries: list[dict[str, Any]] = artefact(name)["abi"]
    return entries


def bytecode(name: Contract) -> bytes:
    """What a deployment sends, before the constructor's arguments."""
    return bytes.fromhex(artefact(name)["bytecode"][2:])
