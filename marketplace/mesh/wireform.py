"""Tensors as the Open Inference Protocol's binary extension carries them: JSON, then octets."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple

import orjson

from marketplace.mesh.errors import ModelFailed
from marketplace.mesh.tensors import ITEM_BYTES, Tensor, packed

_LENGTH: Final = struct.Struct("<I")
# Above this the pieces of a body are not put together.
_JOINED_BYTES: Final = 64 << 10
# More dimensions than any server has; their product would grow without bound.
_DIMENSIONS_MAX: Final = 64
_REASON_MAX_CHARACTERS: Final = 300
# An answer's JSON is kept as read up to this length.
_KNOWN_BYTES: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An inference request on its way to a node; pieces of a body are sent one after another.

    ``header_length`` is that of the JSON before binary tensor data; None where there is none.
    """

    body: bytes | tuple[bytes, ...] = field(repr=False)
    header_length: int | None

    @property
    def size_bytes(self) -> int:
        """How long the body is."""
        body = self.body
        return len(body) if isinstance(body, bytes) else sum(map(len, body))


@dataclass(frozen=True, slots=True)
class Incoming:
    """A node's answer to an inference, as it came."""

    content: bytes = field(repr=False)
    header_length: int | None


def outgoing_of(tensors: Sequence[Tensor], *, timeout_us: int | None = None) -> Outgoing:
    """The inference request of these tensors, with binary data both ways.

    ``timeout_us`` is how long the node may let it wait before it begins.
    """
    pieces = [b""]
    sizes = []
    for tensor in tensors:
        data = tensor.data
        if isinstance(data, list):
            before = len(pieces)
            for each in data:
                pieces.append(_LENGTH.pack(len(each)))
                pieces.append(each)
            sizes.append(sum(map(len, pieces[before:])))
        else:
            pieces.append(data)
            sizes.append(len(data))
    described = tuple([(each.name, each.dtype, each.shape) for each in tensors])
    if timeout_us is None:
        header = _template(described, False) % tuple(sizes)
    else:
        header = _template(described, True) % (*sizes, timeout_us)
    pieces[0] = header
    if sum(sizes) > _JOINED_BYTES:
        return Outgoing(tuple(pieces), len(header))
    return Outgoing(b"".join(pieces), len(header))


@lru_cache(maxsize=1024)
def _template(described: tuple[tuple[str, str, tuple[int, ...]], ...], with_timeout: bool) -> bytes:
    """The request's JSON with a gap for each size, and for the time."""
    inputs = b",".join(
        b'{"name":%b,"shape":%b,"datatype":%b,"parameters":{"binary_data_size":'
        % tuple(orjson.dumps(each).replace(b"%", b"%%") for each in (name, shape, dtype))
        + b"%d}}"
        for name, dtype, shape in described
    )
    timeout = b',"timeout":%d' if with_timeout else b""
    return b'{"inputs":[' + inputs + b'],"parameters":{"binary_data_output":true' + timeout + b"}}"


def tensors_of(incoming: Incoming) -> list[Tensor]:
    """The tensors of an answer. Raises ``ModelFailed`` where it cannot be read."""
    content, length = incoming.content, incoming.header_length
    try:
        if length is None:
            length = len(content)
        elif not 0 < length <= len(content):
            raise ValueError("its JSON is not as long as it says")
        tensors = []
        at = length
        layout = _known_layout if length <= _KNOWN_BYTES else _layout
        for each in layout(content[:length]):
            if isinstance(each, Tensor):
                tensors.append(each)
                continue
            end = at + each.size
            if end > len(content):
                raise ValueError("a tensor's data are not there")
            tensors.append(_tensor(each, content[at:end]))
            at = end
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error)[:_REASON_MAX_CHARACTERS]
        raise ModelFailed(f"The node's answer cannot be read: {reason}.") from None
    if at != len(content):
        raise ModelFailed("The node's answer cannot be read: it is longer than its tensors.")
    return tensors


class _Place(NamedTuple):
    """A tensor whose octets stand behind the JSON."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    size: int


def _layout(header: bytes) -> tuple[_Place | Tensor, ...]:
    return tuple([_place(each) for each in orjson.loads(header)["outputs"]])


# A version's answers mostly differ in their numbers, not in what is said about them.
_known_layout: Final = lru_cache(maxsize=1024)(_layout)
_NOTHING: Final[dict[str, Any]] = {}


def _place(described: dict[str, Any]) -> _Place | Tensor:
    size = described.get("parameters", _NOTHING).get("binary_data_size")
    if size is None:
        return _written_out(described)
    name, dtype, shape, count = _described(described)
    if type(size) is not int or size < 0:
        raise ValueError(f"the size of {name!r} is none")
    if dtype != "BYTES" and size != count * ITEM_BYTES[dtype]:
        raise ValueError(f"{size} bytes are not the shape {list(shape)} of {name!r}")
    return _Place(name, dtype, shape, count, size)


def _tensor(place: _Place, octets: bytes) -> Tensor:
    name, dtype, shape, count, size = place
    if dtype != "BYTES":
        return Tensor(name, dtype, shape, octets)
    if count == 1 and size >= 4 and _LENGTH.unpack_from(octets)[0] == size - 4:
        return Tensor(name, dtype, shape, [octets[4:]])
    return Tensor(name, dtype, shape, _elements(octets, count, name))


def _described(each: dict[str, Any]) -> tuple[str, str, tuple[int, ...], int]:
    name, dtype, shape = each["name"], each["datatype"], each["shape"]
    if type(name) is not str:
        raise ValueError("a tensor has no name")
    if type(dtype) is not str or (dtype != "BYTES" and dtype not in ITEM_BYTES):
        raise ValueError(f"output {name!r} has type {dtype!r}")
    if (
        type(shape) is not list
        or len(shape) > _DIMENSIONS_MAX
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise ValueError(f"output {name!r} has no shape")
    return name, dtype, tuple(shape), math.prod(shape)


def _elements(octets: bytes, count: int, name: str) -> list[bytes]:
    found: list[bytes] = []
    at, end = 0, len(octets)
    # More elements than their lengths have room for are refused before they are counted.
    if count * _LENGTH.size <= end:
        while at + _LENGTH.size <= end:
            start = at + _LENGTH.size
            at = start + _LENGTH.unpack_from(octets, at)[0]
            found.append(octets[start:at])
    if at != end or len(found) != count:
        raise ValueError(f"{end} bytes are not the {count} texts of {name!r}")
    return found


def _written_out(described: dict[str, Any]) -> Tensor:
    """A tensor whose data stand in the JSON."""
    name, dtype, shape, count = _described(described)
    flat = described["data"]
    for _ in shape:
        if flat and type(flat[0]) is list:
            flat = list(chain.from_iterable(flat))
    if type(flat) is not list or len(flat) != count:
        raise ValueError(f"the data of {name!r} have not its shape")
    if dtype == "BYTES":
        return Tensor(name, dtype, shape, [each.encode() for each in flat])
    try:
        return Tensor(name, dtype, shape, packed(dtype, flat))
    except (struct.error, OverflowError):
        raise ValueError(f"the data of {name!r} are not {dtype}") from None
