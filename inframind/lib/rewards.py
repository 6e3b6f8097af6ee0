"""The published dump of an epoch's rewards, and every way in which it could be wrong.

A dump is OpenZeppelin's ``standard-v1`` document over ``(address, bytes32, uint256)`` with the
epoch's lines beside it: who earned how much by what, and by which shares. Whoever has the dump of
the epoch before needs to trust nobody: what a leaf says is what it said before plus its lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from inframind.lib.addresses import checksum_address
from inframind.lib.merkle import HASH_BYTES, NO_ROOT, Tree, leaves_of

FORMAT: Final = "standard-v1"
LEAF_ENCODING: Final = ["address", "bytes32", "uint256"]
BASIS_POINTS: Final = 10_000
OWNER: Final = "owner"
NODE: Final = "node"

_DIGITS: Final = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)

Key = tuple[str, bytes]  # a payee's address and a stream's id


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a payee has earned by a stream in all epochs up to this one, in base units."""

    account: str
    stream: bytes
    cumulative: int
    index: int  # of its node in the tree

    @property
    def key(self) -> Key:
        return self.account, self.stream


@dataclass(frozen=True, slots=True)
class Line:
    """What a payee earned by a stream in this epoch: its share of ``gross``, in base units."""

    account: str
    stream: bytes
    share: str
    parameters: int
    gross: int
    amount: int
    calls: int

    @property
    def key(self) -> Key:
        return self.account, self.stream


@dataclass(frozen=True, slots=True)
class Shares:
    """How a version of the parameters shares a fee, in basis points; the treasury has the rest."""

    node_bps: int
    owner_bps: int

    def of(self, share: str) -> int:
        """Raises ``KeyError`` for a share that no fee is divided into."""
        return {OWNER: self.owner_bps, NODE: self.node_bps}[share]


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is wrong with a dump: the rule that it breaks, and where."""

    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump as it was published; nothing in it is checked but its shape."""

    epoch: int
    nodes: tuple[bytes, ...]
    leaves: tuple[Leaf, ...]
    total: int
    revenue: int
    receipts_root: bytes
    receipts_cid: str
    previous: str | None  # the CID of the dump of the epoch before
    lines: tuple[Line, ...]
    parameters: Mapping[int, Shares]

    @classmethod
    def parse(cls, document: object) -> Self:
        """Reads the JSON document. Raises ``ValueError`` that names what is not as it should be."""
        fields = _object(document, "The dump")
        if fields.get("format") != FORMAT or fields.get("leafEncoding") != LEAF_ENCODING:
            raise ValueError(f"The dump is not of format {FORMAT} with leaves {LEAF_ENCODING}.")
        previous = fields.get("previous")
        if previous is not None and not isinstance(previous, str):
            raise ValueError("previous is neither a CID nor null.")
        return cls(
            epoch=_whole(fields.get("epoch"), "epoch"),
            nodes=tuple(_hash(each, "tree") for each in _list(fields.get("tree"), "tree")),
            leaves=tuple(map(_leaf, _list(fields.get("values"), "values"))),
            total=_amount(fields.get("total"), "total"),
            revenue=_amount(fields.get("revenue"), "revenue"),
            receipts_root=_hash(fields.get("receipts_root"), "receipts_root"),
            receipts_cid=str(fields.get("receipts_cid") or ""),
            previous=previous,
            lines=tuple(map(_line, _list(fields.get("lines"), "lines"))),
            parameters=dict(map(_shares, _list(fields.get("parameters"), "parameters"))),
        )

    @property
    def root(self) -> bytes:
        """The root as published: 32 bytes, zeros where there is no leaf."""
        return self.nodes[0] if self.nodes else NO_ROOT

    @property
    def shared(self) -> int:
        """What the lines give away, in base units; the treasury has the rest of the revenue."""
        return sum(line.amount for line in self.lines)

    def leaves_of(self, account: str) -> list[Leaf]:
        return [leaf for leaf in self.leaves if leaf.account == account]

    def lines_of(self, account: str) -> list[Line]:
        return [line for line in self.lines if line.account == account]

    def proof(self, leaf: Leaf) -> list[bytes]:
        """The siblings from one of the leaves up to the root, in a dump without flaws."""
        path = []
        index = leaf.index
        while index:
            path.append(self.nodes[index + 1 if index & 1 else index - 1])
            index = (index - 1) >> 1
        return path


def flaws(dump: Dump, previous: Dump | None) -> Iterator[Flaw]:
    """Everything that is wrong with a dump, against the one of the epoch before.

    ``previous`` is None for the first epoch, which begins from nothing. The caller has checked
    that both are the bytes that their CIDs name.
    """
    yield from _succession(dump, previous)
    yield from _tree(dump)
    yield from _total(dump)
    yield from _lines(dump)
    yield from _revenue(dump)
    yield from _standings(dump, previous)


def _succession(dump: Dump, previous: Dump | None) -> Iterator[Flaw]:
    if previous is None:
        if dump.previous is not None:
            yield Flaw("previous", f"It follows {dump.previous}, which is not at hand.")
    elif dump.previous is None:
        yield Flaw("previous", f"It names no dump before it, and there is epoch {previous.epoch}.")
    elif previous.epoch != dump.epoch - 1:
        yield Flaw("previous", f"The dump before it is of epoch {previous.epoch}.")
    if previous is not None:
        for version, shares in previous.parameters.items():
            if dump.parameters.get(version, shares) != shares:
                yield Flaw("lines", f"Parameters {version} were others in epoch {previous.epoch}.")


def _tree(dump: Dump) -> Iterator[Flaw]:
    """Rebuilds the whole tree from the values: OpenZeppelin's, leaves in the order of hashes."""
    hashes = leaves_of((leaf.account, leaf.stream, leaf.cumulative) for leaf in dump.leaves)
    built = Tree.of(hashes)
    if len(dump.nodes) != len(built.heap):
        yield Flaw(
            "tree",
            f"{len(dump.leaves)} values make {len(built.heap)} nodes, and it has "
            f"{len(dump.nodes)}.",
        )
        return
    seen: dict[int, Leaf] = {}
    for leaf, digest in zip(dump.leaves, hashes, strict=True):
        if leaf.index in seen:
            yield Flaw("tree", f"Two values share node {leaf.index}.")
        elif not leaf.index < len(dump.nodes) or dump.nodes[leaf.index] != digest:
            yield Flaw("tree", f"Node {leaf.index} is not the hash of the value {_said(leaf.key)}.")
        seen[leaf.index] = leaf
    wrong = [at for at, (one, two) in enumerate(zip(dump.nodes, built.heap, strict=True))
             if one != two]  # fmt: skip
    if wrong:
        yield Flaw(
            "tree",
            f"Rebuilt from its values it has the root 0x{built.root.hex()} instead of "
            f"0x{dump.root.hex()}: {len(wrong)} nodes differ, the first is {wrong[0]}.",
        )


def _total(dump: Dump) -> Iterator[Flaw]:
    found = sum(leaf.cumulative for leaf in dump.leaves)
    if found != dump.total:
        yield Flaw("total", f"Its values add up to {found}, and it says {dump.total}.")


def _lines(dump: Dump) -> Iterator[Flaw]:
    """Each line is the share of the sum, rounded down once."""
    seen: set[tuple[Any, ...]] = set()
    for line in dump.lines:
        what = f"The {line.share} line of {_said(line.key)}"
        identity = (*line.key, line.share, line.parameters)
        if identity in seen:
            yield Flaw("lines", f"{what} is there twice.")
        seen.add(identity)
        shares = dump.parameters.get(line.parameters)
        if shares is None:
            yield Flaw("lines", f"{what} names parameters {line.parameters}, which are not told.")
            continue
        if line.share not in (OWNER, NODE):
            yield Flaw("lines", f"{what} is of a share that no fee is divided into.")
            continue
        bps = shares.of(line.share)
        due = line.gross * bps // BASIS_POINTS
        if line.amount != due:
            yield Flaw(
                "rounding",
                f"{what} is {line.amount}: {bps} / {BASIS_POINTS} of {line.gross}, rounded down, "
                f"is {due}.",
            )
    for version, shares in dump.parameters.items():
        if shares.node_bps + shares.owner_bps > BASIS_POINTS:
            yield Flaw("lines", f"Parameters {version} share more than there is.")


def _revenue(dump: Dump) -> Iterator[Flaw]:
    """Every fee comes up once for its owner and once for its node, and nothing else does."""
    gross: dict[tuple[int, str], int] = {}
    for line in dump.lines:
        of = line.parameters, line.share
        gross[of] = gross.get(of, 0) + line.gross
    for share in (OWNER, NODE):
        found = sum(amount for (_, each), amount in gross.items() if each == share)
        if found != dump.revenue:
            yield Flaw(
                "revenue", f"Its {share} lines share {found}, and its revenue is {dump.revenue}."
            )
    for version in {version for version, _ in gross}:
        owner, node = (gross.get((version, share), 0) for share in (OWNER, NODE))
        if owner != node:
            yield Flaw(
                "revenue",
                f"Under parameters {version} owners share {owner} and nodes {node}: both share "
                "the same fees.",
            )


def _standings(dump: Dump, previous: Dump | None) -> Iterator[Flaw]:
    """What a leaf says is what it said before plus its lines: nothing vanishes, falls or grows."""
    due: dict[Key, int] = {}
    for before in previous.leaves if previous else ():
        due[before.key] = due.get(before.key, 0) + before.cumulative
    old = dict(due)
    for line in dump.lines:
        due[line.key] = due.get(line.key, 0) + line.amount
    found: dict[Key, int] = {}
    for leaf in dump.leaves:
        if leaf.key in found:
            yield Flaw("standing", f"{_said(leaf.key)} is there twice.")
        found[leaf.key] = leaf.cumulative
    for key, amount in due.items():
        said = found.get(key)
        if said is None:
            if amount:
                yield Flaw("vanished", f"{_said(key)} has no value, and {amount} is due to it.")
        elif said < old.get(key, 0):
            yield Flaw("fell", f"{_said(key)} fell from {old[key]} to {said}.")
        elif said != amount:
            yield Flaw("standing", f"{_said(key)} is {said}, and {amount} is due to it.")
    for key, said in found.items():
        if key not in due:
            yield Flaw("standing", f"{_said(key)} is {said}, and no line says why.")


def _said(key: Key) -> str:
    return f"({key[0]}, 0x{key[1].hex()})"


def _leaf(document: object) -> Leaf:
    fields = _object(document, "A value")
    value = _list(fields.get("value"), "value")
    if len(value) != len(LEAF_ENCODING):
        raise ValueError(f"A value has {len(value)} parts instead of {len(LEAF_ENCODING)}.")
    return Leaf(
        account=_address(value[0]),
        stream=_hash(value[1], "stream"),
        cumulative=_amount(value[2], "cumulative"),
        index=_whole(fields.get("treeIndex"), "treeIndex"),
    )


def _line(document: object) -> Line:
    fields = _object(document, "A line")
    return Line(
        account=_address(fields.get("account")),
        stream=_hash(fields.get("stream"), "stream"),
        share=str(fields.get("share")),
        parameters=_whole(fields.get("parameters"), "parameters"),
        gross=_amount(fields.get("gross"), "gross"),
        amount=_amount(fields.get("amount"), "amount"),
        calls=_whole(fields.get("calls"), "calls"),
    )


def _shares(document: object) -> tuple[int, Shares]:
    fields = _object(document, "A version of the parameters")
    return _whole(fields.get("version"), "version"), Shares(
        node_bps=_whole(fields.get("node_bps"), "node_bps"),
        owner_bps=_whole(fields.get("owner_bps"), "owner_bps"),
    )


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object.")
    return value


def _list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list.")
    return value


def _whole(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{what} is no whole number from 0.")
    return value


def _amount(value: object, what: str) -> int:
    # Text only: a number this long loses its last digits on its way through other programs.
    if not isinstance(value, str) or _DIGITS.fullmatch(value) is None:
        raise ValueError(f"{what} is no amount: decimal digits, as text.")
    number = int(value)
    if number >= 1 << 256:
        raise ValueError(f"{what} is larger than any amount on chain.")
    return number


def _hash(value: object, what: str) -> bytes:
    if not isinstance(value, str) or _HASH.fullmatch(value) is None:
        raise ValueError(f"{what} is not 0x and {2 * HASH_BYTES} hexadecimal digits.")
    return bytes.fromhex(value[2:])


def _address(value: object) -> str:
    return checksum_address(value if isinstance(value, str) else "")
