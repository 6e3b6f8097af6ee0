"""JSON Schemas of strangers: which are accepted, and how a document is held against one.

Nothing is ever fetched, patterns run on an engine of linear time, and depth is bounded.
Draft 7 is the default; drafts 4 and 6 are read when ``$schema`` names them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import orjson

from inframind.lib.pointer import escape, pointer_of, tokens_of
from inframind.lib.problem import Violation

MAX_DEPTH: Final = 32
MAX_BYTES: Final = 128 << 10
MAX_VIOLATIONS: Final = 20
_MAX_DETAIL_CHARACTERS: Final = 300
_MAX_POINTER_CHARACTERS: Final = 2_000

_DRAFTS: Final = {
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
}
_DEFAULT_DRAFT: Final = "http://json-schema.org/draft-07/schema"
# Under these a part of the schema speaks about the same place of the document.
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependencies")
# Below these stand documents, not schemas: a "$ref" there is only a word.
_DATA: Final = frozenset({"const", "enum", "default", "examples"})
_NAMED: Final = frozenset(
    {"properties", "patternProperties", "definitions", "$defs", "dependencies"}
)


def check_schema(schema: Any, *, pointer: str = "") -> tuple[Violation, ...]:
    """What stands against using ``schema``, places below ``pointer``; empty when it is sound."""
    if not isinstance(schema, dict):
        return (Violation(pointer, "A schema is a mapping.", "Write it like {type: object, …}."),)
    depth = _depth(schema)
    if depth > MAX_DEPTH:
        return (
            Violation(
                pointer,
                f"The schema is nested {_more_than(depth)} levels deep, at most "
                f"{MAX_DEPTH} are read.",
                "Flatten it, or use $ref with definitions.",
            ),
        )
    try:
        size_bytes = len(orjson.dumps(schema))
    except TypeError:
        # Integers beyond 64 bits are sound JSON that this encoder does not write.
        size_bytes = len(repr(schema))
    if size_bytes > MAX_BYTES:
        return (
            Violation(
                pointer,
                f"The schema has {size_bytes} bytes, at most {MAX_BYTES} are read.",
                "Shorten it.",
            ),
        )
    found = tuple(_structure(schema, pointer))[:MAX_VIOLATIONS]
    return found or _compile(schema, pointer)


class Validator:
    """Holds documents against one accepted schema."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raises ValueError for a schema that ``check_schema`` does not accept."""
        try:
            self._validator = _build(schema)
        except jsonschema_rs.ValidationError as error:
            raise ValueError(f"The schema cannot be used: {error.message}") from error

    def is_valid(self, document: Any) -> bool:
        """Says whether the document keeps the schema."""
        return bool(self._validator.is_valid(document))

    def violations(self, document: Any) -> tuple[Violation, ...]:
        """The first 20 breaks, each with the place in the document."""
        # Most documents keep it, and to say no more than that takes a tenth of the time.
        if self._validator.is_valid(document):
            return ()
        found: list[Violation] = []
        for error in self._validator.iter_errors(document):
            pointer = pointer_of(error.instance_path)
            if len(pointer) > _MAX_POINTER_CHARACTERS:
                # One long key over many members would come back once for each.
                pointer = f"{pointer[:_MAX_POINTER_CHARACTERS]}…"
            found.append(Violation(pointer, _shown(error.message)))
            if len(found) == MAX_VIOLATIONS:
                break
        return tuple(found)


@lru_cache(maxsize=512)
def _cached(key: str, text: bytes) -> Validator:
    return Validator(orjson.loads(text))


# By key: the very schema that was asked with last, which stands for its content.
_last: dict[str, tuple[dict[str, Any], Validator]] = {}
_MAX_LAST: Final = 512


def validator_for(key: str, schema: dict[str, Any]) -> Validator:
    """The validator of a schema, kept by ``key`` (a CID with the schema's role) and its content.

    A schema that was asked with is not changed afterwards.
    """
    last = _last.get(key)
    if last is not None and last[0] is schema:
        return last[1]
    try:
        validator = _cached(key, orjson.dumps(schema))
    except TypeError:
        validator = Validator(schema)
    if len(_last) >= _MAX_LAST:
        _last.clear()
    _last[key] = (schema, validator)
    return validator


def _build(schema: dict[str, Any]) -> Any:
    draft = str(schema.get("$schema", _DEFAULT_DRAFT)).rstrip("#")
    return _DRAFTS[draft](
        schema, offline=True, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def _compile(schema: dict[str, Any], pointer: str) -> tuple[Violation, ...]:
    try:
        _build(schema)
    except jsonschema_rs.ValidationError as error:
        place = pointer + pointer_of(error.instance_path)
        if place.endswith("/pattern") or "regex" in error.message:
            return (
                Violation(
                    place,
                    f"The pattern cannot be used: {_shown(error.message)}",
                    "Write it without look-around, back-references and large repeat counts.",
                ),
            )
        if error.kind.name == "$ref" or "ointer" in error.message or "Retrieval" in error.message:
            return (
                Violation(
                    place,
                    f"A $ref leads nowhere: {_shown(error.message)}.",
                    "Point into this schema, like #/definitions/item.",
                ),
            )
        return (Violation(place, _shown(error.message), "See json-schema.org, draft 7."),)
    except (ValueError, TypeError, RecursionError) as error:
        return (Violation(pointer, f"The schema cannot be read: {_shown(str(error))}."),)
    return ()


def _structure(schema: dict[str, Any], pointer: str) -> Iterator[Violation]:
    """Rules of our own: known drafts, no way out of the schema, no $ref in circles."""
    draft = schema.get("$schema", _DEFAULT_DRAFT)
    if not isinstance(draft, str) or draft.rstrip("#") not in _DRAFTS:
        yield Violation(
            f"{pointer}/$schema",
            f"The dialect {str(draft)[:120]!r} is not read.",
            f"Use draft 7: {_DEFAULT_DRAFT}#, or leave $schema out.",
        )
    for place, part in _parts(schema, pointer):
        reference = part.get("$ref")
        if reference is None:
            if place != pointer and ("$id" in part or ("id" in part and draft != _DEFAULT_DRAFT)):
                yield Violation(
                    place,
                    "A part of the schema moves the base of its references ($id).",
                    "Remove it, and use #/definitions/….",
                )
            continue
        if not isinstance(reference, str):
            yield Violation(f"{place}/$ref", "A $ref is text.", "Write it like #/definitions/item.")
        elif reference != "#" and not reference.startswith("#/"):
            yield Violation(
                f"{place}/$ref",
                f"It refers to {reference[:120]!r}, outside this schema; nothing is fetched.",
                "Copy that schema under definitions and refer to #/definitions/….",
            )
        elif _circles(schema, part):
            yield Violation(
                f"{place}/$ref",
                "The $ref leads back to itself without going into the document.",
                "Let it stand under properties or items.",
            )


def _parts(schema: Any, pointer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every sub-schema with its place."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _parts(item, f"{pointer}/{index}")
    if not isinstance(schema, dict):
        return
    yield pointer, schema
    for key, value in schema.items():
        place = f"{pointer}/{escape(key)}"
        if key in _DATA:
            continue
        if key in _NAMED and isinstance(value, dict):
            for name, part in value.items():
                yield from _parts(part, f"{place}/{escape(name)}")
        elif key != "$ref":
            yield from _parts(value, place)


def _circles(root: dict[str, Any], start: dict[str, Any]) -> bool:
    """Follows $ref and in-place keywords only; a way back to the start would never end."""
    seen: set[int] = set()
    waiting: list[Any] = [_target(root, start["$ref"])]
    while waiting:
        part = waiting.pop()
        if part is start:
            return True
        if isinstance(part, list):
            waiting.extend(part)
        if not isinstance(part, dict) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part.get("$ref"), str):
            waiting.append(_target(root, part["$ref"]))
            continue
        for key in _IN_PLACE:
            value = part.get(key)
            if key == "dependencies" and isinstance(value, dict):
                waiting.extend(value.values())
            elif value is not None:
                waiting.append(value)
    return False


def _target(root: dict[str, Any], reference: str) -> Any:
    part: Any = root
    for token in tokens_of(reference.removeprefix("#")):
        if isinstance(part, dict):
            part = part.get(token)
        elif isinstance(part, list) and re.fullmatch(r"[0-9]{1,6}", token):
            part = part[int(token)] if int(token) < len(part) else None
        else:
            return None
    return part


def _depth(value: Any) -> int:
    """Levels of nesting, counted without recursion and only as far as matters."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        if not isinstance(part, dict | list):
            continue
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            return deepest
        items = part.values() if isinstance(part, dict) else part
        waiting.extend((item, depth + 1) for item in items)
    return deepest


def _more_than(depth: int) -> str:
    return f"more than {depth - 1}"


def _shown(message: str) -> str:
    return (
        message
        if len(message) <= _MAX_DETAIL_CHARACTERS
        else f"{message[:_MAX_DETAIL_CHARACTERS]}…"
    )
