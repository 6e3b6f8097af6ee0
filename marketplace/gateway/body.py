"""What a call's body must be before anything else looks at it: pure rules."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final, NamedTuple

import orjson

from inframind.lib.pointer import escape, pointer_of
from inframind.lib.problem import Problem, Violation

MAX_DEPTH: Final = 64
# Bodies above this are handled beside the loop, so that they hold up nobody else's call.
HEAVY_BYTES: Final = 256 << 10
_REMEDY: Final = "Send one JSON document that keeps the model's input schema."


def read(body: bytes, *, max_bytes: int) -> Any:
    """The JSON document of a body. Raises ``Problem`` 413 and 422.

    Refused besides what is not JSON: NaN and infinities, keys that stand twice in one object (two
    readers could see two documents), and nesting deeper than 64.
    """
    if len(body) > max_bytes:
        raise too_large(max_bytes)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        detail = "It is empty." if not body.strip() else f"{error}."
        raise _refused("", f"The body is not JSON. {detail[:200]}") from None
    # Brackets and colons bound depth and keys from above: most bodies need no walk.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(document)
    colons = body.count(b":")
    flat = type(document) is dict and len(document) == colons
    if not flat and _keys(document) < colons:
        _check_keys(body)
    return document


def too_large(max_bytes: int) -> Problem:
    """The 413 of a body, with the limit."""
    return Problem(
        "too-large",
        f"The body is larger than {max_bytes} bytes.",
        status=413,
        remedy="Send a smaller document.",
    )


def _check_depth(document: Any) -> None:
    # Each with what it is in: a pointer for each would repeat a long key for all of its members.
    level: list[_Place] = [_Place(None, "", document)]
    for _ in range(MAX_DEPTH):
        level = [
            _Place(place, key, value)
            for place in level
            for key, value in _members(place.container)
            if isinstance(value, dict | list)
        ]
        if not level:
            return
    detail = f"The document is nested deeper than {MAX_DEPTH} levels here."
    raise _refused(_pointer(level[0]), detail)


class _Place(NamedTuple):
    """A container in a document, by its key in another."""

    within: _Place | None
    key: str | int
    container: Any


def _pointer(place: _Place) -> str:
    keys = []
    while place.within is not None:
        keys.append(place.key)
        place = place.within
    return pointer_of(reversed(keys))


def _members(container: Any) -> Any:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _keys(document: Any) -> int:
    count = 0
    open_containers = [document]
    while open_containers:
        value = open_containers.pop()
        if isinstance(value, dict):
            count += len(value)
            open_containers.extend(value.values())
        elif isinstance(value, list):
            open_containers.extend(each for each in value if isinstance(each, dict | list))
    return count


def _check_keys(body: bytes) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            times = Counter(name for name, _ in pairs)
            twice = next(name for name, count in times.items() if count > 1)
            raise _refused(
                f"/{escape(twice)}", f"The key {twice[:80]!r} stands twice in one object."
            )
        return found

    json.loads(body, object_pairs_hook=once)


def _refused(pointer: str, detail: str) -> Problem:
    return Problem(
        "invalid-input",
        detail,
        status=422,
        violations=(Violation(pointer, detail),),
        remedy=_REMEDY,
    )
