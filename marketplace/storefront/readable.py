"""JSON laid out for reading. Pure: no Django."""

from __future__ import annotations

import json
from typing import Any

LINE_WIDTH = 72
INDENT = "  "


def readable_json(document: Any, indent: str = "") -> str:
    """The document as indented JSON, keys in the order given, that reads back as it was.

    What holds no object and fits a line of `LINE_WIDTH` characters stays on one: the corners of a
    box need not take sixteen lines.
    """
    line = json.dumps(document, ensure_ascii=False)
    if not isinstance(document, dict | list) or not document:
        return line
    if len(indent) + len(line) <= LINE_WIDTH and not _holds_object(document):
        return line
    inner = indent + INDENT
    if isinstance(document, dict):
        parts = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {readable_json(value, inner)}"
            for key, value in document.items()
        ]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    if all(isinstance(each, int | float) for each in document):
        return "[\n" + _filled([json.dumps(each) for each in document], inner) + f"\n{indent}]"
    parts = [f"{inner}{readable_json(value, inner)}" for value in document]
    return "[\n" + ",\n".join(parts) + f"\n{indent}]"


def _holds_object(document: Any) -> bool:
    if isinstance(document, dict):
        return True
    return isinstance(document, list) and any(map(_holds_object, document))


def _filled(words: list[str], indent: str) -> str:
    """Numbers separated by commas, as many on a line as fit."""
    lines: list[str] = []
    line = indent + words[0]
    for word in words[1:]:
        if len(line) + len(word) + 2 > LINE_WIDTH:
            lines.append(line + ",")
            line = indent + word
        else:
            line += f", {word}"
    return "\n".join([*lines, line])
