"""A YAML reader for documents of strangers: JSON values, each with its line, and nothing else.

YAML as its libraries read it expands aliases, runs tags, keeps the last of two equal keys and turns
`1.0`, `0xB7…` and `no` into what nobody wrote. This one refuses the first three and leaves the rest
as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from inframind.lib.pointer import escape
from inframind.lib.problem import Violation

MAX_DEPTH: Final = 64
_MAX_NUMBER_CHARACTERS: Final = 40
_NUMBER: Final = re.compile(
    r"[-+]?(?:[0-9]+|(?=\.?[0-9])[0-9]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?)", re.ASCII
)
_INTEGER: Final = re.compile(r"[-+]?[0-9]+", re.ASCII)
# Beyond these a number in a call's JSON is read as a float, so here too.
_FIRST_INTEGER: Final = -(1 << 63)
_LAST_INTEGER: Final = (1 << 64) - 1
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class YamlRefused(Exception):
    """The text is not a document that is read here; carries the one violation."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(violation.detail)
        self.violation = violation


@dataclass(frozen=True)
class Document:
    """A JSON value and, by RFC 6901 pointer, the line (from 1) on which each part of it begins."""

    value: Any
    lines: dict[str, int] = field(default_factory=dict)

    def line_of(self, pointer: str) -> int | None:
        """The line of a place, or of the nearest place around it."""
        while pointer and pointer not in self.lines:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer)


def load_yaml(
    data: bytes,
    *,
    max_bytes: int,
    keeps_source: Callable[[str], bool] = lambda pointer: False,
) -> Document:
    """Reads one UTF-8 YAML document of at most ``max_bytes`` bytes.

    Where ``keeps_source(pointer)`` says so, an unquoted number stays the text that was written.
    Raises YamlRefused for anything too large, ambiguous or active.
    """
    if len(data) > max_bytes:
        raise _refused(
            "",
            f"It has {len(data)} bytes, at most {max_bytes} are read.",
            "Move data out of the manifest into files of the package.",
            None,
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refused("", "It is not UTF-8 text.", "Save the file as UTF-8.", line) from None
    try:
        return _Reader(yaml.parse(text, Loader=yaml.CSafeLoader), keeps_source).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = None if mark is None else mark.line + 1
        what = " ".join(filter(None, (error.context, error.problem)))
        raise _refused(
            "",
            f"It is not YAML: {what or 'it cannot be read'}.",
            "Check the indentation, and quote text that holds `: ` or `#`.",
            place,
        ) from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        place = None if position is None else text.count("\n", 0, position) + 1
        raise _refused(
            "",
            "It holds a character that YAML does not allow.",
            "Remove control characters.",
            place,
        ) from None


class _Reader:
    """Builds the value from parser events, so that nothing is built before it is checked."""

    def __init__(self, events: Iterator[yaml.Event], keeps_source: Callable[[str], bool]) -> None:
        self._events = events
        self._keeps_source = keeps_source
        self._lines: dict[str, int] = {}

    def document(self) -> Document:
        next(self._events)  # the stream's start
        event = next(self._events)
        if not isinstance(event, yaml.DocumentStartEvent):
            raise _refused("", "It is empty.", "Write at least name, version and runtime.", 1)
        value = self._value(next(self._events), "", 0)
        next(self._events)  # the document's end
        after = next(self._events)
        if isinstance(after, yaml.DocumentStartEvent):
            raise _refused(
                "",
                "It holds a second document.",
                "Keep one document, without `---` below it.",
                _line(after),
            )
        return Document(value, self._lines)

    def _value(self, event: yaml.Event, pointer: str, depth: int) -> Any:
        line = _line(event)
        self._lines.setdefault(pointer, line)
        if isinstance(event, yaml.AliasEvent):
            raise _refused(pointer, "It uses an alias (`*…`).", "Write the value out.", line)
        if not isinstance(event, yaml.NodeEvent):
            raise _refused(pointer, "It is not YAML here.", "Check the indentation.", line)
        if event.anchor is not None:
            raise _refused(
                pointer,
                f"It defines an anchor (`&{event.anchor[:40]}`).",
                "Remove it; anchors and aliases are not read.",
                line,
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _refused(
                pointer,
                f"It carries a tag ({str(tag)[:60]}).",
                "Remove it; text in quotes is text without a tag.",
                line,
            )
        if depth > MAX_DEPTH:
            raise _refused(
                pointer[:400], f"It is nested deeper than {MAX_DEPTH} levels.", "Flatten it.", line
            )
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(pointer, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(pointer, depth)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, pointer, line)
        raise TypeError(f"{event} is no node of YAML")

    def _mapping(self, pointer: str, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.anchor or event.tag:
                raise _refused(
                    pointer, "A key is not plain text.", "Write keys as plain words.", line
                )
            key = event.value
            place = f"{pointer}/{escape(key)}"
            _check_text(key, place, line)
            if key in mapping:
                raise _refused(
                    place,
                    f"The key {key[:80]!r} stands here twice, first on line {self._lines[place]}.",
                    "Keep one of them.",
                    line,
                )
            self._lines[place] = line
            mapping[key] = self._value(next(self._events), place, depth + 1)
        return mapping

    def _sequence(self, pointer: str, depth: int) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, f"{pointer}/{len(items)}", depth + 1))
        return items

    def _scalar(self, event: yaml.ScalarEvent, pointer: str, line: int) -> Any:
        text = event.value
        _check_text(text, pointer, line)
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NUMBER.fullmatch(text) is None or self._keeps_source(pointer):
            return text
        if len(text) > _MAX_NUMBER_CHARACTERS:
            raise _refused(
                pointer,
                f"A number has at most {_MAX_NUMBER_CHARACTERS} characters.",
                "Shorten it, or quote it if it is text.",
                line,
            )
        if _INTEGER.fullmatch(text) and _FIRST_INTEGER <= (whole := int(text)) <= _LAST_INTEGER:
            return whole
        number = float(text)
        if not math.isfinite(number):
            raise _refused(pointer, f"{text} is beyond every float.", "Use a smaller one.", line)
        return number


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _check_text(text: str, pointer: str, line: int) -> None:
    # The database keeps neither of them.
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _refused(
            pointer.replace("\0", "�")[:400],
            "It holds a NUL or half of a surrogate pair.",
            "Remove that character.",
            line,
        )


def _refused(pointer: str, detail: str, remedy: str, line: int | None) -> YamlRefused:
    return YamlRefused(Violation(pointer, detail, remedy, line))
