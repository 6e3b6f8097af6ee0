"""JSON documents to named tensors and back, as a manifest's `tensors` section says."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Any, Final, Protocol

import numpy as np
import orjson

from inframind.lib.pointer import tokens_of
from inframind.lib.problem import Problem, Violation

NUMPY_TYPES: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
_CODES: Final = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "INT8": "b",
    "INT16": "h", "INT32": "i", "INT64": "q", "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip
ITEM_BYTES: Final = {dtype: struct.calcsize(f"<{code}") for dtype, code in _CODES.items()}
_FLOATING: Final = frozenset({"FP16", "FP32", "FP64"})
# For fewer elements an array costs more than it saves.
_MANY: Final = 512
# A tensor without elements takes no octets, whatever its other dimensions are; its lists do.
_EMPTY_ROWS_MAX: Final = 1 << 16
_ABSENT: Final = object()


class Spec(Protocol):
    """What the mapping needs to know of one tensor; the manifest's `TensorSpec` has it."""

    @property
    def name(self) -> str: ...
    @property
    def pointer(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> Sequence[int]: ...
    @property
    def encoding(self) -> str: ...
    @property
    def default(self) -> Any: ...
    @property
    def has_default(self) -> bool: ...


@dataclass(frozen=True)
class DocumentSpec:
    """The one tensor of a model that takes and gives whole documents."""

    name: str = "document"
    pointer: str = ""
    dtype: str = "BYTES"
    shape: tuple[int, ...] = ()
    encoding: str = "json"
    default: Any = None
    has_default: bool = False


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array; `shape` includes the batch dimension.

    `data` are the elements of BYTES in their order, or the octets of numbers, little-endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | list[bytes] = field(repr=False)

    @property
    def texts(self) -> list[bytes]:
        """The elements of a tensor of BYTES; of another there are none."""
        return self.data if isinstance(self.data, list) else []

    @property
    def array(self) -> np.ndarray[Any, np.dtype[Any]]:
        """The elements as numpy holds them, in their shape; those of BYTES as objects."""
        if isinstance(self.data, list):
            return _objects(self.data).reshape(self.shape)
        return np.frombuffer(self.data, NUMPY_TYPES[self.dtype]).reshape(self.shape)


class BadOutput(Exception):
    """What a model gave back cannot be a document; the text says which tensor and why."""


def document_specs() -> tuple[DocumentSpec, ...]:
    """The tensors, in and out, of the `python` runtime."""
    return _DOCUMENT


_DOCUMENT: Final = (DocumentSpec(),)


def packed(dtype: str, flat: Sequence[Any]) -> bytes:
    """The octets of numbers or booleans. Raises ``struct.error``, ``OverflowError``."""
    return struct.pack(f"<{len(flat)}{_CODES[dtype]}", *flat)


def encode(document: Any, specs: Sequence[Spec], *, max_batch_size: int) -> list[Tensor]:
    """The tensors of one document, in the order of `specs`; with batching, one row each.

    Raises a 422 `Problem` whose violations point into the document.
    """
    tensors: list[Tensor] = []
    violations: list[Violation] = []
    for spec in specs:
        value = _resolve(document, spec.pointer)
        if value is _ABSENT and spec.has_default:
            value = spec.default
        if value is _ABSENT:
            violations.append(
                Violation(spec.pointer, "This property is missing and the model needs it.")
            )
            continue
        try:
            shape, data = _content(value, spec)
        except _Unfit as error:
            violations.append(Violation(error.pointer, error.detail))
            continue
        if max_batch_size > 0:
            shape = (1, *shape)
        tensors.append(Tensor(spec.name, spec.dtype, shape, data))
    if violations:
        raise Problem(
            "invalid-input",
            "The input cannot be given to the model.",
            status=422,
            violations=tuple(violations),
            remedy="Correct what the violations point to and send the call again.",
        )
    return tensors


def decode(tensors: Sequence[Tensor], specs: Sequence[Spec], *, max_batch_size: int) -> Any:
    """The document of a model's answer. Raises ``BadOutput``."""
    given = {tensor.name: tensor for tensor in tensors}
    document: Any = {}
    for spec in specs:
        tensor = given.get(spec.name)
        if tensor is None:
            raise BadOutput(f"The output tensor {spec.name!r} is missing.")
        value = _value(tensor, spec, batched=max_batch_size > 0)
        if spec.pointer == "":
            document = value
        else:
            _insert(document, _tokens(spec.pointer), value)
    return document


class _Unfit(Exception):
    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def _resolve(document: Any, pointer: str) -> Any:
    value = document
    for token in _tokens(pointer):
        if isinstance(value, dict):
            value = value.get(token, _ABSENT)
        elif isinstance(value, list) and token.isascii() and token.isdigit():
            value = value[int(token)] if int(token) < len(value) else _ABSENT
        else:
            return _ABSENT
        if value is _ABSENT:
            return _ABSENT
    return value


@lru_cache(maxsize=4096)
def _tokens(pointer: str) -> tuple[str, ...]:
    return tuple(tokens_of(pointer))


def _insert(document: dict[str, Any], tokens: Sequence[str], value: Any) -> None:
    for token in tokens[:-1]:
        document = document.setdefault(token, {})
    document[tokens[-1]] = value


def _content(value: Any, spec: Spec) -> tuple[tuple[int, ...], bytes | list[bytes]]:
    """(shape, data) of a value's tensor, without the batch dimension."""
    if spec.encoding == "json":
        return (1,), [orjson.dumps(value)]
    if spec.encoding in ("base64", "utf8"):
        if not isinstance(value, str):
            raise _Unfit(spec.pointer, f"This must be a text, not {_kind(value)}.")
        octets = _octets(value, spec)
        _check_shape((len(octets),), spec)
        return (len(octets),), octets
    if not spec.shape:
        return (1,), _cast([value], (1,), spec, scalar=True)
    shape, flat = _flatten(value, spec)
    _check_shape(shape, spec)
    return shape, _cast(flat, shape, spec, scalar=False)


def _octets(text: str, spec: Spec) -> bytes:
    if spec.encoding == "utf8":
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Unfit(spec.pointer, f"This is not base64 ({error}).") from None


def _flatten(value: Any, spec: Spec) -> tuple[tuple[int, ...], list[Any]]:
    rank = len(spec.shape)
    level = [value]
    shape: list[int] = []
    for depth in range(rank):
        for index, each in enumerate(level):
            if not isinstance(each, list):
                where = _place(spec.pointer, index, shape)
                raise _Unfit(where, f"This must be a list, not {_kind(each)}.")
        lengths = {len(each) for each in level}
        if len(lengths) > 1:
            index = next(i for i, each in enumerate(level) if len(each) != len(level[0]))
            raise _Unfit(
                _place(spec.pointer, index, shape),
                f"This list has {len(level[index])} elements, its neighbours have {len(level[0])}.",
            )
        # An empty list says nothing about the dimensions below it.
        shape.append(lengths.pop() if lengths else max(spec.shape[depth], 0))
        level = list(chain.from_iterable(level))
    return tuple(shape), level


def _cast(
    flat: list[Any], shape: tuple[int, ...], spec: Spec, *, scalar: bool
) -> bytes | list[bytes]:
    place_shape: Sequence[int] = () if scalar else shape

    def unfit(index: int, detail: str) -> _Unfit:
        return _Unfit(_place(spec.pointer, index, place_shape), detail)

    family = _family(spec.dtype)
    allowed, wanted = _ALLOWED[family]
    kinds = set(map(type, flat))
    if not kinds <= allowed:
        index = next(i for i, each in enumerate(flat) if type(each) not in allowed)
        raise unfit(index, f"This must be {wanted}, not {_kind(flat[index])}.")
    if family == "text":
        return [each.encode() for each in flat]
    if family == "integer" and float in kinds:
        for index, each in enumerate(flat):
            if not float(each).is_integer():
                raise unfit(index, "This must be a whole number.")
        flat = [int(each) for each in flat]
    try:
        return packed(spec.dtype, flat)
    except (struct.error, OverflowError):
        index = next(i for i, each in enumerate(flat) if not _fits(spec.dtype, each))
    if family == "integer":
        limits = np.iinfo(NUMPY_TYPES[spec.dtype])
        raise unfit(index, f"This must be from {limits.min} to {limits.max} ({spec.dtype}).")
    raise unfit(index, f"This number is beyond what {spec.dtype} can hold.")


def _fits(dtype: str, value: Any) -> bool:
    try:
        packed(dtype, [value])
    except (struct.error, OverflowError):
        return False
    return True


_ALLOWED: Final[dict[str, tuple[set[type], str]]] = {
    "text": ({str}, "a text"),
    "bool": ({bool}, "true or false"),
    "integer": ({int, float}, "a whole number"),
    "float": ({int, float}, "a number"),
}


def _family(dtype: str) -> str:
    if dtype == "BYTES":
        return "text"
    if dtype == "BOOL":
        return "bool"
    return "float" if dtype.startswith("FP") else "integer"


def _objects(items: list[bytes]) -> np.ndarray[Any, np.dtype[Any]]:
    data = np.empty(len(items), dtype=np.object_)
    data[:] = items
    return data


def _check_shape(shape: tuple[int, ...], spec: Spec) -> None:
    for position, (have, want) in enumerate(zip(shape, spec.shape, strict=True)):
        if want not in (-1, have):
            nesting = "" if position == 0 else f" at nesting level {position + 1}"
            raise _Unfit(spec.pointer, f"This must have {want} elements{nesting}, not {have}.")


def _place(pointer: str, index: int, shape: Sequence[int]) -> str:
    """The pointer of the element with this flat index; an empty shape is the value itself."""
    if not shape:
        return pointer
    return pointer + "".join(f"/{int(each)}" for each in np.unravel_index(index, tuple(shape)))


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return f"the number {value}" if len(str(value)) < 30 else "that number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list) else "an object"


def _value(tensor: Tensor, spec: Spec, *, batched: bool) -> Any:
    dtype, encoding, shape = spec.dtype, spec.encoding, tensor.shape
    if tensor.dtype != dtype:
        raise _bad(spec, f"has type {tensor.dtype}, the manifest declares {dtype}.")
    if batched:
        if shape[:1] != (1,):
            raise _bad(spec, f"has shape {list(shape)}: one row was asked for.")
        shape = shape[1:]
    declared = spec.shape or (1,)
    if shape != declared and (
        len(shape) != len(declared)
        or any(want not in (-1, have) for have, want in zip(shape, declared, strict=True))
    ):
        raise _bad(spec, f"has shape {list(shape)}, the manifest declares {list(spec.shape)}.")
    if not all(shape) and math.prod(filter(None, shape)) > _EMPTY_ROWS_MAX:
        raise _bad(spec, f"has shape {list(shape)}: no elements, in too many rows.")
    data = tensor.data
    try:
        if isinstance(data, list):
            if encoding == "json":
                return orjson.loads(data[0])
            return _nested([each.decode() for each in data], shape, spec)
        if encoding == "base64":
            return base64.b64encode(data).decode()
        if encoding == "utf8":
            return data.decode()
    except UnicodeDecodeError:
        raise _bad(spec, "is not UTF-8 text.") from None
    except orjson.JSONDecodeError as error:
        raise _bad(spec, f"is not JSON: {error}.") from None
    numbers, finite = _numbers(data, dtype)
    if not finite:
        raise _bad(spec, "holds NaN or an infinity, which JSON cannot carry.")
    return _nested(numbers, shape, spec)


def _bad(spec: Spec, detail: str) -> BadOutput:
    return BadOutput(f"The output tensor {spec.name!r} {detail}")


def _numbers(data: bytes, dtype: str) -> tuple[Sequence[Any], bool]:
    """(elements, whether all are finite)"""
    count = len(data) // ITEM_BYTES[dtype]
    if count < _MANY:
        few = struct.unpack(f"<{count}{_CODES[dtype]}", data)
        return few, dtype not in _FLOATING or all(map(math.isfinite, few))
    many = np.frombuffer(data, NUMPY_TYPES[dtype])
    return many.tolist(), dtype not in _FLOATING or bool(np.isfinite(many).all())


def _nested(flat: Sequence[Any], shape: Sequence[int], spec: Spec) -> Any:
    if not spec.shape:
        return flat[0]
    for position in range(len(shape) - 1, 0, -1):
        length = shape[position]
        rows = math.prod(shape[:position])
        flat = [list(flat[row * length : (row + 1) * length]) for row in range(rows)]
    return list(flat)
