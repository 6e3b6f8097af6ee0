"""One byte form per JSON document (RFC 8785), so that equal documents have equal digests."""

import hashlib
import json
import math
from typing import Final

MAX_DEPTH: Final = 200


def canonical_json(document: object) -> bytes:
    """Returns the RFC 8785 bytes of a document made of JSON types (a tuple is an array).

    Keys are sorted by their UTF-16 code units, there is no white space, and numbers have the
    shortest form that ECMAScript would print.
    Raises ValueError for NaN, infinities, integers that no double holds, lone surrogates and
    nesting deeper than 200; TypeError for keys that are not strings and for other types.
    """
    parts: list[str] = []
    _write(document, parts, 0)
    try:
        return "".join(parts).encode()
    except UnicodeEncodeError as error:
        raise ValueError("A text in the document holds half of a surrogate pair.") from error


def digest(document: object) -> str:
    """Returns `"sha256:<hex>"` of the document's canonical bytes; raises like canonical_json."""
    return f"sha256:{hashlib.sha256(canonical_json(document)).hexdigest()}"


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"The document is nested deeper than {MAX_DEPTH} levels.")
    match value:
        case None:
            parts.append("null")
        case bool():
            parts.append("true" if value else "false")
        case str():
            parts.append(json.dumps(value, ensure_ascii=False))
        case int():
            parts.append(_integer(value))
        case float():
            parts.append(_number(value))
        case dict():
            _write_object(value, parts, depth)
        case list() | tuple():
            parts.append("[")
            for index, item in enumerate(value):
                if index:
                    parts.append(",")
                _write(item, parts, depth + 1)
            parts.append("]")
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form.")


def _write_object(value: dict[object, object], parts: list[str], depth: int) -> None:
    def order(key: object) -> bytes:
        if not isinstance(key, str):
            raise TypeError(f"JSON keys are strings, not {type(key).__name__}.")
        return key.encode("utf-16-be", "surrogatepass")

    parts.append("{")
    for index, key in enumerate(sorted(value, key=order)):
        parts.append("," if index else "")
        parts.append(json.dumps(key, ensure_ascii=False))
        parts.append(":")
        _write(value[key], parts, depth + 1)
    parts.append("}")


def _integer(value: int) -> str:
    """RFC 8785 numbers are doubles: another integer would not survive the next reader."""
    if value.bit_length() <= 1023:
        text = _number(float(value))
        if int(float(value)) == value or text == str(value):
            return text
    raise ValueError(f"An integer of {value.bit_length()} bits is not kept exactly by JSON.")


def _number(value: float) -> str:
    """ECMAScript's Number::toString for a finite double."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form.")
    if value == 0:
        return "0"
    mantissa, _, exponent_text = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # The decimal point stands after this many of the digits (may lie outside of them).
    point = len(digits) - len(fraction) + int(exponent_text or 0)
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        padded = digits.ljust(point, "0")
        text = padded[:point] + (f".{padded[point:]}" if len(padded) > point else "")
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        power = point - 1
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
    return f"-{text}" if value < 0 else text
