"""The digest of a call's document, fast where the fast encoder writes the canonical bytes."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, Final

import orjson

from inframind.lib import canonical

# Where the two forms of a number part: an exponent, a whole number with a point, more digits than
# every double keeps. Inside of a text these only cost time.
_APART: Final = re.compile(rb"[0-9]e|\.0(?![0-9])|(?<![.0-9])[0-9]{16}")
# Every digit alike and most of all else blank: three searches say whether to look closer.
_SHAPES: Final = bytes(
    ord("1") if chr(each) in "0123456789" else each if chr(each) in ".e" else ord(" ")
    for each in range(256)
)
_LONG: Final = b"1" * 16
# The encoder sorts keys by code point, the canonical form by UTF-16 unit: alike below U+D800.
_HIGH: Final = re.compile(rb"[\xee-\xf4]")


def digest_of_parsed(document: Any) -> str:
    """What ``canonical.digest`` gives for a document, which has to be one that orjson has read.

    Raises ``ValueError`` like it.
    """
    try:
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        # Too deep, or a whole number beyond 64 bits.
        return canonical.digest(document)
    if (
        text.count(b"[") + text.count(b"{") > canonical.MAX_DEPTH
        or _has_odd_number(text)
        or (not text.isascii() and _HIGH.search(text))
    ):
        return canonical.digest(document)
    return digest_of_bytes(text)


def digest_of_bytes(octets: bytes) -> str:
    """The digest of bytes as they are."""
    return f"sha256:{sha256(octets).hexdigest()}"


def _has_odd_number(text: bytes) -> bool:
    shapes = text.translate(_SHAPES)
    suspect = b"1.1" in shapes or b"1e" in shapes or _LONG in shapes
    return suspect and _APART.search(text) is not None
