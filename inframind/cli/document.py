"""The input document of a call: from a file, from a text, or from pairs on the command line."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from inframind.cli import refusal

MAX_DEPTH: Final = 200
_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]', re.DOTALL)
_FORMS: Final = "key=text, key:=json, key@file (its bytes as base64), key=@file (its text)"


def read_input(source: str) -> bytes:
    """The JSON of a file, or of stdin for ``-``, exactly as it is written there.

    Raises Refusal (exit 2) with line and column when it is not JSON.
    """
    return checked(read_bytes(source, "--input"), "stdin" if source == "-" else source)


def read_bytes(source: str, option: str) -> bytes:
    """The bytes of a file, or of stdin for ``-``; raises Refusal (exit 2)."""
    return sys.stdin.buffer.read() if source == "-" else _bytes(source, option)


def checked(data: bytes, what: str) -> bytes:
    """The same bytes if they are one JSON document; raises Refusal (exit 2) otherwise."""
    if _depth(data) > MAX_DEPTH:
        raise refusal.usage(
            f"{what} is nested more than {MAX_DEPTH} levels deep.", "Make the document flatter."
        )
    try:
        json.loads(data, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise refusal.usage(
            f"{what} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.",
            'A document looks like {"text": "…"}.',
        ) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise refusal.usage(f"{what} is not JSON: {error}.") from error
    return data


def _depth(data: bytes) -> int:
    """The deepest nesting, counted before parsing: a parser would spend its stack on it."""
    depth = deepest = 0
    for match in _BRACKET.finditer(data):
        character = data[match.start()]
        if character in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in b"]}":
            depth -= 1
    return deepest


def from_pairs(pairs: Sequence[str]) -> bytes:
    """The JSON object that pairs describe; raises Refusal (exit 2) for one that cannot be read."""
    document: dict[str, Any] = {}
    for pair in pairs:
        key, value = _pair(pair)
        if key in document:
            raise refusal.usage(f"{key!r} is given twice.", "Give each property once.")
        document[key] = value
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _pair(pair: str) -> tuple[str, Any]:
    places = [(place, sign) for sign in (":=", "=@", "=", "@") if (place := pair.find(sign)) > 0]
    if not places:
        raise refusal.usage(f"{pair!r} is not a property.", f"Write one of: {_FORMS}.")
    # The first separator counts; where several begin at one place, the longest.
    place, sign = min(places, key=lambda found: (found[0], -len(found[1])))
    key, text = pair[:place], pair[place + len(sign) :]
    if sign == "=":
        return key, text
    if sign == ":=":
        return key, json.loads(checked(text.encode("utf-8", "surrogateescape"), f"{key}:"))
    data = _bytes(text, key)
    if sign == "@":
        return key, base64.b64encode(data).decode()
    try:
        return key, data.decode()
    except UnicodeDecodeError as error:
        raise refusal.usage(
            f"{text} is not UTF-8 text.", f"To send its bytes as base64, write {key}@{text}."
        ) from error


def _bytes(path: str, what: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise refusal.usage(f"{what}: {path} cannot be read: {error.strerror}.") from error


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
