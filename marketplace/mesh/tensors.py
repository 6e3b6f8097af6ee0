"""JSON documents to named tensors and back, as a manifest's `tensors` section says."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Tensor:
    """A named array; `shape` includes the batch dimension. BYTES data are objects of type bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, np.dtype[Any]] = field(repr=False)


class BadOutput(Exception):
    """What a model gave back cannot be a document; the text says which tensor and why."""


def document_specs() -> tuple[DocumentSpec, ...]:
    """The tensors, in and out, of the `python` runtime."""
    return (DocumentSpec(),)


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
            data = _array(value, spec)
        except _Unfit as error:
            violations.append(Violation(error.pointer, error.detail))
            continue
        if max_batch_size > 0:
            data = data[np.newaxis]
        tensors.append(Tensor(spec.name, spec.dtype, data.shape, data))
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
            _insert(document, tokens_of(spec.pointer), value)
    return document


class _Unfit(Exception):
    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def _resolve(document: Any, pointer: str) -> Any:
    value = document
    for token in tokens_of(pointer):
        if isinstance(value, dict):
            value = value.get(token, _ABSENT)
        elif isinstance(value, list) and token.isascii() and token.isdigit():
            value = value[int(token)] if int(token) < len(value) else _ABSENT
        else:
            return _ABSENT
        if value is _ABSENT:
            return _ABSENT
    return value


def _insert(document: dict[str, Any], tokens: list[str], value: Any) -> None:
    for token in tokens[:-1]:
        document = document.setdefault(token, {})
    document[tokens[-1]] = value


def _array(value: Any, spec: Spec) -> np.ndarray[Any, np.dtype[Any]]:
    if spec.encoding == "json":
        return _objects([orjson.dumps(value)])
    if spec.encoding in ("base64", "utf8"):
        if not isinstance(value, str):
            raise _Unfit(spec.pointer, f"This must be a text, not {_kind(value)}.")
        data = np.frombuffer(_octets(value, spec), dtype=np.uint8)
        _check_shape(data.shape, spec)
        return data
    if not spec.shape:
        return _cast([value], (1,), spec, scalar=True)
    shape, flat = _flatten(value, spec)
    _check_shape(shape, spec)
    return _cast(flat, shape, spec, scalar=False)


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
) -> np.ndarray[Any, np.dtype[Any]]:
    place_shape: Sequence[int] = () if scalar else shape

    def unfit(index: int, detail: str) -> _Unfit:
        return _Unfit(_place(spec.pointer, index, place_shape), detail)

    allowed, wanted = _ALLOWED[_family(spec.dtype)]
    if not set(map(type, flat)) <= allowed:
        index = next(i for i, each in enumerate(flat) if type(each) not in allowed)
        raise unfit(index, f"This must be {wanted}, not {_kind(flat[index])}.")
    if spec.dtype == "BYTES":
        return _objects([each.encode() for each in flat]).reshape(shape)
    numpy_type = NUMPY_TYPES[spec.dtype]
    if _family(spec.dtype) == "integer":
        limits = np.iinfo(numpy_type)
        for index, each in enumerate(flat) if float in set(map(type, flat)) else ():
            if not float(each).is_integer():
                raise unfit(index, "This must be a whole number.")
        if flat and (min(flat) < limits.min or max(flat) > limits.max):
            index = next(i for i, n in enumerate(flat) if not limits.min <= n <= limits.max)
            raise unfit(index, f"This must be from {limits.min} to {limits.max} ({spec.dtype}).")
        return np.array([int(each) for each in flat], dtype=numpy_type).reshape(shape)
    try:
        with np.errstate(over="ignore"):
            data = np.array(flat, dtype=np.float64).astype(numpy_type).reshape(shape)
    except OverflowError:
        data = np.full(shape, np.inf)
    if data.dtype != np.bool_ and not np.isfinite(data).all():
        index = int(np.argmin(np.isfinite(data)))
        raise unfit(index, f"This number is beyond what {spec.dtype} can hold.")
    return data


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
    what = f"The output tensor {spec.name!r}"
    if tensor.dtype != spec.dtype:
        raise BadOutput(f"{what} has type {tensor.dtype}, the manifest declares {spec.dtype}.")
    data = tensor.data
    shape = tuple(tensor.shape)
    if batched:
        if shape[:1] != (1,):
            raise BadOutput(f"{what} has shape {list(shape)}: one row was asked for.")
        data, shape = data[0], shape[1:]
    declared = tuple(spec.shape) or (1,)
    if len(shape) != len(declared) or any(
        want not in (-1, have) for have, want in zip(shape, declared, strict=True)
    ):
        raise BadOutput(
            f"{what} has shape {list(shape)}, the manifest declares {list(spec.shape)}."
        )
    if spec.dtype.startswith("FP") and not np.isfinite(data).all():
        raise BadOutput(f"{what} holds NaN or an infinity, which JSON cannot carry.")
    if spec.encoding == "base64":
        return base64.b64encode(data.tobytes()).decode()
    try:
        if spec.encoding == "utf8":
            return data.tobytes().decode()
        if spec.encoding == "json":
            return orjson.loads(data.reshape(-1)[0])
        if spec.dtype == "BYTES":
            data = _decoded(data)
    except UnicodeDecodeError:
        raise BadOutput(f"{what} is not UTF-8 text.") from None
    except orjson.JSONDecodeError as error:
        raise BadOutput(f"{what} is not JSON: {error}.") from None
    return data.reshape(-1)[0].item() if _is_number(data, spec) else _plain(data, spec)


def _decoded(data: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    texts = np.empty(data.size, dtype=np.object_)
    texts[:] = [bytes(each).decode() for each in data.reshape(-1)]
    return texts.reshape(data.shape)


def _is_number(data: np.ndarray[Any, np.dtype[Any]], spec: Spec) -> bool:
    return not spec.shape and data.dtype != np.object_


def _plain(data: np.ndarray[Any, np.dtype[Any]], spec: Spec) -> Any:
    return data.reshape(-1)[0] if not spec.shape else data.tolist()
