"""Content identifiers of files and directories, as Kubo's `unixfs-v1-2025` profile makes them.

CIDv1, sha2-256, raw leaves of 1 MiB, at most 1024 links per node, base32 text. Directories are
plain nodes: packages stay far below the size at which IPFS would shard them.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from inframind.lib.dagpb import Link, UnixFs, UnixFsType, encode_node, encode_unixfs

CHUNK_BYTES: Final = 1024 * 1024
FAN_OUT: Final = 1024
MAX_DIRECTORY_ENTRIES: Final = 999
# Above this block size IPFS would shard a directory, and its CID would no longer be this one.
MAX_DIRECTORY_BLOCK_BYTES: Final = 256 * 1024 - 1

RAW: Final = 0x55
DAG_PB: Final = 0x70

_SHA2_256: Final = b"\x12\x20"
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_MAX_TEXT_CHARACTERS: Final = 128

Emit = Callable[["Cid", bytes], None]


@dataclass(frozen=True, slots=True)
class Cid:
    """A CIDv1 over sha2-256: its codec (RAW or DAG_PB) and 32 digest bytes. `str()` is base32."""

    codec: int
    digest: bytes

    @classmethod
    def of(cls, codec: int, block: bytes) -> Self:
        """Hashes a block."""
        return cls(codec, hashlib.sha256(block).digest())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads the 36 binary bytes; raises ValueError for any other version, codec or hash."""
        if data[:2] == _SHA2_256 and len(data) == 34:
            raise ValueError("This is a CIDv0. Add the content again with CID version 1.")
        if len(data) != 36 or data[0] != 1:
            raise ValueError("A CID here is version 1 with a 32-byte sha2-256 digest.")
        if data[1] not in (RAW, DAG_PB) or data[2:4] != _SHA2_256:
            raise ValueError("A CID here is of codec raw or dag-pb, hashed with sha2-256.")
        return cls(data[1], data[4:])

    def __bytes__(self) -> bytes:
        return bytes((1, self.codec)) + _SHA2_256 + self.digest

    def __str__(self) -> str:
        return "b" + base64.b32encode(bytes(self)).decode().rstrip("=").lower()

    def matches(self, block: bytes) -> bool:
        """Says whether the block's hash is this one."""
        return hashlib.sha256(block).digest() == self.digest


def parse_cid(text: str) -> Cid:
    """Reads a CIDv1 in base32 (`b…`) or base58btc (`z…`); raises ValueError, with the remedy."""
    if not 2 <= len(text) <= _MAX_TEXT_CHARACTERS or not text.isascii():
        raise ValueError(f"{text[:80]!r} is not a CID. A CID looks like bafybei….")
    if text.startswith("Qm") and len(text) == 46:
        raise ValueError(f"{text!r} is a CIDv0. Add the content again with CID version 1.")
    try:
        if text[0] == "b":
            cid = Cid.from_bytes(_decode_base32(text[1:]))
        elif text[0] == "z":
            cid = Cid.from_bytes(_decode_base58(text[1:]))
        else:
            raise ValueError("It begins with neither b (base32) nor z (base58).")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a CID that can be used here. {error}") from error
    return cid


@dataclass(frozen=True, slots=True)
class Node:
    """A finished file or directory: its CID, its content bytes and its graph's bytes (`tsize`)."""

    cid: Cid
    size_bytes: int
    tsize: int


class FileBuilder:
    """Turns a stream of bytes into the blocks of one file, holding one chunk at a time.

    Every finished block goes to `emit(cid, block)`, children before parents.
    """

    def __init__(
        self, emit: Emit, *, chunk_bytes: int = CHUNK_BYTES, fan_out: int = FAN_OUT
    ) -> None:
        self._emit = emit
        self._chunk_bytes = chunk_bytes
        self._fan_out = fan_out
        self._buffer = bytearray()
        self._levels: list[list[Node]] = [[]]

    def feed(self, data: bytes) -> None:
        """Takes the next bytes, of any length."""
        view = memoryview(data)
        while len(view):
            if len(self._buffer) == self._chunk_bytes:
                self._cut()
            room = self._chunk_bytes - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]

    def finish(self) -> Node:
        """Emits what is left and returns the file's root. The builder is spent afterwards."""
        self._cut()
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            self._close(level)
            level += 1
        return self._levels[level][0]

    def _cut(self) -> None:
        block = bytes(self._buffer)
        self._buffer.clear()
        cid = Cid.of(RAW, block)
        self._emit(cid, block)
        self._push(0, Node(cid, len(block), len(block)))

    def _push(self, level: int, node: Node) -> None:
        # A full level is closed only when one more comes, so a root never has a single child.
        if len(self._levels[level]) == self._fan_out:
            self._close(level)
        self._levels[level].append(node)

    def _close(self, level: int) -> None:
        children = self._levels[level]
        sizes = tuple(child.size_bytes for child in children)
        record = UnixFs(UnixFsType.FILE, sum(sizes), sizes)
        links = [Link(bytes(child.cid), "", child.tsize) for child in children]
        parent = _finish_node(links, record, sum(sizes), self._emit)
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._push(level + 1, parent)


def directory(entries: Sequence[tuple[str, Node]], emit: Emit) -> Node:
    """Emits the directory of the given (name, node) entries and returns it; order is irrelevant.

    Raises ValueError for more than 999 entries, names that together are too long for one block,
    repeated names, and names that are empty, `.`, `..` or contain a slash.
    """
    if len(entries) > MAX_DIRECTORY_ENTRIES:
        raise ValueError(
            f"A directory has {len(entries)} entries, {MAX_DIRECTORY_ENTRIES} are allowed."
        )
    names = [name for name, _ in entries]
    if len(set(names)) != len(names):
        raise ValueError("A directory has two entries of one name.")
    if any(name in ("", ".", "..") or "/" in name for name in names):
        raise ValueError("A directory entry has a name that is not a file name.")
    ordered = sorted(entries, key=lambda entry: entry[0].encode())
    links = [Link(bytes(node.cid), name, node.tsize) for name, node in ordered]
    size_bytes = sum(node.size_bytes for _, node in ordered)
    return _finish_node(links, UnixFs(UnixFsType.DIRECTORY), size_bytes, emit)


def directory_tree(files: Iterable[tuple[str, Node]], emit: Emit) -> Node:
    """Emits the directories above files of slash-separated paths and returns the root.

    Raises ValueError like `directory`, and when a path is both a file and a directory.
    """
    here: list[tuple[str, Node]] = []
    below: dict[str, list[tuple[str, Node]]] = {}
    for path, node in files:
        head, slash, rest = path.partition("/")
        if slash:
            below.setdefault(head, []).append((rest, node))
        else:
            here.append((head, node))
    here.extend((name, directory_tree(entries, emit)) for name, entries in sorted(below.items()))
    return directory(here, emit)


def _finish_node(links: Sequence[Link], record: UnixFs, size_bytes: int, emit: Emit) -> Node:
    block = encode_node(links, encode_unixfs(record))
    if record.type is UnixFsType.DIRECTORY and len(block) > MAX_DIRECTORY_BLOCK_BYTES:
        raise ValueError("The names in one directory are too long together. Shorten some of them.")
    cid = Cid.of(DAG_PB, block)
    emit(cid, block)
    return Node(cid, size_bytes, len(block) + sum(link.tsize for link in links))


def _decode_base32(text: str) -> bytes:
    if text != text.lower():
        raise ValueError("Base32 CIDs are written in lower case.")
    padded = text.upper() + "=" * (-len(text) % 8)
    data = base64.b32decode(padded)
    if base64.b32encode(data).decode() != padded:
        raise ValueError("Its last character carries stray bits.")
    return data


def _decode_base58(text: str) -> bytes:
    number = 0
    for character in text:
        position = _BASE58.find(character)
        if position < 0:
            raise ValueError(f"{character!r} is not a base58 character.")
        number = number * 58 + position
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
