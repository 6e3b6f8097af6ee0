"""The published receipts of an epoch, read batch by batch and added up again.

A dump is JSON Lines: a header that says what the receipts come to, then one line a batch. Nothing
is held in memory but the ids of the receipts, so a dump may be as long as an epoch was busy.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from inframind.lib import receipts, secp256k1
from inframind.lib.merkle import Tree

FORMAT: Final = "inframind-receipts-v1"
_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_MOST_FLAWS: Final = 20


@dataclass(frozen=True, slots=True)
class Sought:
    """A receipt that should be in the dump, in a batch of this root."""

    id: UUID
    root: bytes
    leaf: bytes


@dataclass(slots=True)
class Reader:
    """Takes a dump line by line, as the bytes come; then ``finish`` says the rest.

    ``epoch``, ``chain_id`` and ``signer`` are what the caller knows, and not what the dump says.
    ``flaws`` are sentences, the first ones only where there are many.
    """

    epoch: int
    chain_id: int
    signer: str
    sought: Sought | None = None
    count: int = field(default=0, init=False)
    fees: int = field(default=0, init=False)
    batches: int = field(default=0, init=False)
    root: bytes = field(default=b"", init=False)
    found: bool = field(default=False, init=False)
    flaws: list[str] = field(default_factory=list, init=False)
    flaw_count: int = field(default=0, init=False)
    _header: dict[str, Any] | None = field(default=None, init=False)
    _leaves: list[bytes] = field(default_factory=list, init=False)
    _ids: set[bytes] = field(default_factory=set, init=False)
    _last: tuple[int, bytes] = field(default=(-1, b""), init=False)

    def feed(self, line: bytes) -> None:
        """Takes the next line. Raises ``ValueError`` for what is no line of such a dump."""
        document = json.loads(line)
        if not isinstance(document, dict):
            raise ValueError("A line of the dump is no JSON object.")
        try:
            if self._header is None:
                self._begin(document)
            else:
                self._take(document)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"A line of the dump lacks what it needs: {type(error).__name__} {error}."
            ) from None

    def finish(self) -> None:
        """Compares what was read with the header. Raises ``ValueError`` where there was none."""
        if self._header is None:
            raise ValueError("The dump is empty.")
        self.root = Tree.of(self._leaves).root
        header = self._header
        for what, said, found in (
            ("batches", int(header["batches"]), self.batches),
            ("receipts", int(header["count"]), self.count),
            ("base units of fees", _amount(header["fees"]), self.fees),
        ):
            if said != found:
                self._flaw(f"Its header says {said} {what}, and there are {found}.")
        if _octets(header["root"]) != self.root:
            self._flaw(f"Its header says root {header['root']}, and it is 0x{self.root.hex()}.")

    def _begin(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT:
            raise ValueError(f"The dump is not of format {FORMAT}.")
        if header["epoch"] != self.epoch:
            self._flaw(f"It is of epoch {header['epoch']}, and not of {self.epoch}.")
        if header["chain_id"] != self.chain_id:
            self._flaw(f"It is for chain {header['chain_id']}, and not for {self.chain_id}.")
        # Read now, so that a header without them is refused before a long dump is read.
        int(header["batches"]), int(header["count"])
        _amount(header["fees"]), _octets(header["root"])
        self._header = header

    def _take(self, batch: dict[str, Any]) -> None:
        name = UUID(batch["id"])
        root, fees = _octets(batch["root"]), _amount(batch["fees"])
        count, time_us = batch["count"], batch["time"]
        leaves = []
        total = 0
        for id_text, fee_text, committed in batch["receipts"]:
            call_id, fee = UUID(id_text), _amount(fee_text)
            leaf = receipts.leaf(call_id, fee, _octets(committed))
            if call_id.bytes in self._ids:
                self._flaw(f"Receipt {call_id} is there twice.")
            self._ids.add(call_id.bytes)
            leaves.append(leaf)
            total += fee
            if self.sought and (root, call_id, leaf) == (
                self.sought.root, self.sought.id, self.sought.leaf,
            ):  # fmt: skip
                self.found = True
        if (len(leaves), total) != (count, fees):
            self._flaw(
                f"Batch {name} says {count} receipts of {fees}, and has {len(leaves)} of {total}."
            )
        if Tree.of(leaves).root != root:
            self._flaw(f"Batch {name} is not the tree of its receipts.")
        if self._signer_of(root, count, fees, time_us, batch["signature"]) != self.signer:
            self._flaw(f"Batch {name} is not signed by the gateway {self.signer}.")
        if (time_us, name.bytes) <= self._last:
            self._flaw(f"Batch {name} is not in the order of times.")
        self._last = time_us, name.bytes
        self._leaves.append(receipts.epoch_leaf(root, count, fees))
        self.batches += 1
        self.count += len(leaves)
        self.fees += total

    def _signer_of(self, root: bytes, count: int, fees: int, time_us: int, signature: str) -> str:
        digest = receipts.batch_digest(
            root=root,
            epoch=self.epoch,
            count=count,
            fees_base_units=fees,
            time_us=time_us,
            chain_id=self.chain_id,
        )
        try:
            return secp256k1.recover(digest, bytes.fromhex(signature.removeprefix("0x")))
        except ValueError:
            return ""

    def _flaw(self, sentence: str) -> None:
        self.flaw_count += 1
        if len(self.flaws) < _MOST_FLAWS:
            self.flaws.append(sentence)


def _amount(value: Any) -> int:
    if not isinstance(value, str) or _DIGITS.fullmatch(value) is None:
        raise ValueError(f"{str(value)[:80]!r} is no amount: decimal digits, as text.")
    return int(value)


def _octets(value: Any) -> bytes:
    octets = bytes.fromhex(value.removeprefix("0x"))
    if len(octets) != 32:
        raise ValueError(f"{value[:80]!r} is no hash of 32 bytes.")
    return octets
