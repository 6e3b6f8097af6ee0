"""The two encodings of a UnixFS graph: DAG-PB nodes and the UnixFS record inside each.

Both are tiny protocol buffers. Writing is canonical; reading refuses what we would never write
beyond the optional fields (mode, mtime), because a reader must not guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024

_VARINT: Final = 0
_BYTES: Final = 2


class UnixFsType(IntEnum):
    """Kinds of UnixFS record; the numbers are the format's own."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class Link:
    """A named link: the target's binary CID and the bytes of its whole graph (`tsize`)."""

    cid: bytes
    name: str
    tsize: int


@dataclass(frozen=True, slots=True)
class UnixFs:
    """A UnixFS record; sizes are of file content, in bytes, one per link in `block_sizes`."""

    type: UnixFsType
    file_size_bytes: int | None = None
    block_sizes: tuple[int, ...] = ()
    data: bytes = b""


def encode_node(links: Sequence[Link], data: bytes) -> bytes:
    """Returns the DAG-PB block: the links in the given order, then the data."""
    block = bytearray()
    for link in links:
        body = (
            _field(1, link.cid)
            + _field(2, link.name.encode())
            + _varint(3 << 3 | _VARINT)
            + _varint(link.tsize)
        )
        block += _field(2, body)
    return bytes(block + _field(1, data))


def decode_node(block: bytes) -> tuple[tuple[Link, ...], bytes]:
    """Returns a block's links and data; raises ValueError when it is not a DAG-PB node."""
    links: list[Link] = []
    data: bytes | None = None
    for number, value in _fields(block):
        if number == 2 and isinstance(value, bytes) and data is None:
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes) and data is None:
            data = value
        else:
            raise ValueError(f"Field {number} has no place in a DAG-PB node.")
    return tuple(links), data or b""


def encode_unixfs(record: UnixFs) -> bytes:
    """Returns the record's bytes, with only the fields that are set."""
    out = _varint(1 << 3 | _VARINT) + _varint(record.type)
    if record.data:
        out += _field(2, record.data)
    if record.file_size_bytes is not None:
        out += _varint(3 << 3 | _VARINT) + _varint(record.file_size_bytes)
    for size in record.block_sizes:
        out += _varint(4 << 3 | _VARINT) + _varint(size)
    return out


def decode_unixfs(data: bytes) -> UnixFs:
    """Returns the record; raises ValueError when the bytes are not a UnixFS record."""
    kind: int | None = None
    content = b""
    file_size_bytes: int | None = None
    sizes: list[int] = []
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            content = value
        elif number == 3 and isinstance(value, int):
            file_size_bytes = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
    if kind is None:
        raise ValueError("A UnixFS record has no type.")
    return UnixFs(UnixFsType(kind), file_size_bytes, tuple(sizes), content)


def _decode_link(body: bytes) -> Link:
    cid: bytes | None = None
    name = ""
    tsize = 0
    for number, value in _fields(body):
        if number == 1 and isinstance(value, bytes):
            cid = value
        elif number == 2 and isinstance(value, bytes):
            name = value.decode()
        elif number == 3 and isinstance(value, int):
            tsize = value
        else:
            raise ValueError(f"Field {number} has no place in a DAG-PB link.")
    if cid is None:
        raise ValueError("A DAG-PB link has no target.")
    return Link(cid, name, tsize)


def _varint(value: int) -> bytes:
    if value < 0:
        raise ValueError("Sizes are not negative.")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(value)) + value


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index in range(9):
        if offset + index >= len(data):
            raise ValueError("A number is cut off.")
        byte = data[offset + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, offset + index + 1
    raise ValueError("A number is longer than 63 bits.")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    offset = 0
    while offset < len(data):
        key, offset = _read_varint(data, offset)
        value, offset = _read_varint(data, offset)
        match key & 0b111:
            case 0:
                yield key >> 3, value
            case 2:
                if offset + value > len(data):
                    raise ValueError("A field is cut off.")
                yield key >> 3, data[offset : offset + value]
                offset += value
            case wire:
                raise ValueError(f"Wire type {wire} is not used by this format.")
