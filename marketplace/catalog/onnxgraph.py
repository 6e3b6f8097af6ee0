"""What an ONNX file says about itself, read field by field without building the model in memory.

Only what registration decides on: the graph's inputs and outputs, and where tensors keep external
data. The wire format is walked here because the ``onnx`` package would load the whole file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_FIELDS: Final = 5_000_000
MAX_NESTING: Final = 24

# Field numbers of onnx.proto; each set leads from a message towards its tensors.
_MODEL_GRAPH: Final = 7
_TO_GRAPHS: Final = {"model": {7: "graph", 20: "training", 25: "function"}}
_CHILDREN: Final = {
    **_TO_GRAPHS,
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
}  # fmt: skip
_EXTERNAL: Final = 1


class NotOnnx(ValueError):
    """The bytes are not an ONNX model, or one too intricate to check."""


@dataclass
class OnnxOutline:
    """Names of the main graph's inputs (without those that an initializer fills) and outputs, and
    the tensors kept outside the file: (location, offset, length); length 0 means to the end."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    external: list[tuple[str, int, int]] = field(default_factory=list)


def outline(data: memoryview) -> OnnxOutline:
    """Reads the outline of a serialized ModelProto. Raises NotOnnx."""
    return _Walk(data).outline()


class _Walk:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = MAX_FIELDS
        self._outline = OnnxOutline()
        self._filled: set[str] = set()

    def outline(self) -> OnnxOutline:
        graphs = 0
        for number, start, end in self._messages(0, len(self._data)):
            if number == _MODEL_GRAPH:
                graphs += 1
                self._names(start, end)
        if graphs != 1:
            raise NotOnnx("it holds no graph" if graphs == 0 else "it holds several graphs")
        self._tensors("model", 0, len(self._data), 0)
        self._outline.inputs = [n for n in self._outline.inputs if n not in self._filled]
        return self._outline

    def _names(self, start: int, end: int) -> None:
        for number, inner, inner_end in self._messages(start, end):
            if number in (11, 12):
                name = self._text_field(inner, inner_end, 1)
                (self._outline.inputs if number == 11 else self._outline.outputs).append(name)
            elif number == 5:
                self._filled.add(self._text_field(inner, inner_end, 8))

    def _tensors(self, kind: str, start: int, end: int, nesting: int) -> None:
        if nesting > MAX_NESTING:
            raise NotOnnx(f"its graphs are nested deeper than {MAX_NESTING} levels")
        if kind == "tensor":
            self._tensor(start, end)
            return
        children = _CHILDREN[kind]
        for number, inner, inner_end in self._messages(start, end):
            child = children.get(number)
            if child is not None:
                self._tensors(child, inner, inner_end, nesting + 1)

    def _tensor(self, start: int, end: int) -> None:
        entries: dict[str, str] = {}
        external = False
        for number, wire, value, inner in self._fields(start, end):
            if number == 14 and wire == 0:
                external = external or value == _EXTERNAL
            elif number == 13 and wire == 2:
                external = True
                entries[self._text_field(inner, inner + value, 1)] = self._text_field(
                    inner, inner + value, 2
                )
        if not external:
            return
        try:
            place = (int(entries.get("offset") or 0), int(entries.get("length") or 0))
        except ValueError:
            raise NotOnnx("a tensor's external offset or length is not a number") from None
        self._outline.external.append((entries.get("location", ""), *place))

    def _text_field(self, start: int, end: int, wanted: int) -> str:
        for number, inner, inner_end in self._messages(start, end):
            if number == wanted:
                if inner_end - inner > 4096:
                    raise NotOnnx("a name in it is longer than 4096 bytes")
                return bytes(self._data[inner:inner_end]).decode("utf-8", "replace")
        return ""

    def _messages(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The length-delimited fields of a range: number, start, end."""
        for number, wire, value, inner in self._fields(start, end):
            if wire == 2:
                yield number, inner, inner + value

    def _fields(self, offset: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Every field: number, wire type, value (length for wire type 2), where content begins."""
        while offset < end:
            self._left -= 1
            if self._left < 0:
                raise NotOnnx(f"it has more than {MAX_FIELDS} fields to look at")
            key, offset = self._varint(offset, end)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise NotOnnx("it has a field without number")
            if wire == 0:
                value, offset = self._varint(offset, end)
                yield number, wire, value, offset
            elif wire == 2:
                value, offset = self._varint(offset, end)
                if value > end - offset:
                    raise NotOnnx("it is cut off")
                yield number, wire, value, offset
                offset += value
            elif wire in (1, 5):
                offset += 8 if wire == 1 else 4
                if offset > end:
                    raise NotOnnx("it is cut off")
                yield number, wire, 0, offset
            else:
                raise NotOnnx("it is not in the protobuf form")

    def _varint(self, offset: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while offset < end and shift < 70:
            byte = self._data[offset]
            offset += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, offset
            shift += 7
        raise NotOnnx("it is cut off, or not in the protobuf form")
