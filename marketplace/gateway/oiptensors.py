"""One tensor as the Open Inference Protocol carries it, held against what a version declares."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any, Final

import numpy as np
import orjson

from marketplace.mesh.tensors import NUMPY_TYPES, Spec

_INTEGERS: Final = {
    name: (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    for name, kind in NUMPY_TYPES.items()
    if "INT" in name
}
_ITEM_BYTES: Final = {
    name: int(np.dtype(kind).itemsize) for name, kind in NUMPY_TYPES.items() if name != "BYTES"
}
_JSON_TYPES: Final[dict[str, frozenset[type]]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    "FP32": frozenset({int, float}),
    "FP64": frozenset({int, float}),
    **dict.fromkeys(_INTEGERS, frozenset({int})),
}
_JSON_WORDS: Final = {
    "BOOL": "true or false",
    "BYTES": "texts",
    "FP32": "numbers",
    "FP64": "numbers",
}
_DOCUMENT: Final = "json"  # the encoding of a tensor that holds a whole JSON document


class Unfit(Exception):
    """Something in a header does not fit: JSON pointer into it, and what is wrong."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(detail)
        self.pointer = pointer
        self.detail = detail


def described(spec: Spec, *, max_batch_size: int) -> dict[str, Any]:
    """A tensor as metadata names it; -1 stands for any length, the batch dimension included."""
    batch = [-1] if max_batch_size > 0 else []
    return {"name": spec.name, "datatype": spec.dtype, "shape": [*batch, *(spec.shape or (1,))]}


def shaped(
    each: dict[str, Any], spec: Spec, rows: int | None, max_batch_size: int, pointer: str
) -> tuple[int, int | None]:
    """(elements, rows) of a tensor whose type and shape are as declared.

    ``rows``: the batch dimension that the tensors before it had, None for the first and for models
    without one. Raises ``Unfit``.
    """
    if each.get("datatype") != spec.dtype:
        raise Unfit(f"{pointer}/datatype", f"The tensor {spec.name} has datatype {spec.dtype}.")
    shape = each.get("shape")
    if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
        raise Unfit(f"{pointer}/shape", "A shape is a list of whole numbers from 0.")
    declared = tuple(spec.shape) or (1,)
    inner = shape
    if max_batch_size > 0:
        first = shape[0] if shape else 0
        if not 1 <= first <= max_batch_size or first != (rows or first):
            raise Unfit(
                f"{pointer}/shape",
                f"The first dimension is the batch: 1 to {max_batch_size}, alike in every tensor.",
            )
        rows, inner = first, shape[1:]
    if len(inner) != len(declared) or any(
        want not in (-1, have) for have, want in zip(inner, declared, strict=True)
    ):
        wanted = described(spec, max_batch_size=max_batch_size)["shape"]
        raise Unfit(f"{pointer}/shape", f"The shape of {spec.name} is {wanted}, -1 any length.")
    return math.prod(shape), rows


def check_octets(data: memoryview, spec: Spec, count: int, pointer: str) -> None:
    """Raises ``Unfit`` unless the binary data are exactly ``count`` elements."""
    item = _ITEM_BYTES.get(spec.dtype)
    if item is not None:
        if len(data) != count * item:
            detail = f"{count} elements of {spec.dtype} are {count * item} bytes, not {len(data)}."
            raise Unfit(pointer, detail)
        return
    at, end, start = 0, len(data), 0
    for _ in range(count):
        start = at + 4
        if start > end:
            break
        at = start + struct.unpack_from("<I", data, at)[0]
    else:
        if at == end:
            if spec.encoding == _DOCUMENT:
                _check_document(bytes(data[start:]), pointer)
            return
    detail = f"{end} bytes are not {count} elements, each with its length before it."
    raise Unfit(pointer, detail)


def check_values(data: Any, spec: Spec, count: int, pointer: str, rank: int) -> None:
    """Raises ``Unfit`` unless JSON data, flat or nested, are exactly ``count`` elements."""
    allowed = _JSON_TYPES.get(spec.dtype)
    if allowed is None:
        raise Unfit(pointer, f"{spec.dtype} is carried as binary data only.")
    if not isinstance(data, list):
        raise Unfit(pointer, "The data are a list.")
    flat, depth = data, 1
    while depth < rank and list in set(map(type, flat)):
        flat = list(chain.from_iterable(x if type(x) is list else (x,) for x in flat))
        depth += 1
    if not set(map(type, flat)) <= allowed:
        words = _JSON_WORDS.get(spec.dtype, "whole numbers")
        raise Unfit(pointer, f"The data of {spec.dtype} are {words}.")
    if len(flat) != count:
        raise Unfit(pointer, f"The shape has {count} elements, the data {len(flat)}.")
    limits = _INTEGERS.get(spec.dtype)
    if limits is not None and flat and not (limits[0] <= min(flat) and max(flat) <= limits[1]):
        raise Unfit(pointer, f"{spec.dtype} is from {limits[0]} to {limits[1]}.")
    if spec.encoding == _DOCUMENT:
        _check_document(flat[0], pointer)


def _check_document(text: str | bytes, pointer: str) -> None:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Unfit(
            pointer, f"This tensor holds one JSON document, and it is not: {error}."
        ) from None


def check_carried(spec: Spec, binary: bool, pointer: str) -> None:
    """Raises ``Unfit`` for an output that is asked for in JSON, which cannot hold it."""
    if not binary and spec.dtype not in _JSON_TYPES:
        raise Unfit(pointer, f"{spec.name} is {spec.dtype}: ask for it as binary data.")
