"""A form from a JSON Schema, and a document from the form. Pure: no Django, nothing is fetched."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from inframind.lib.pointer import pointer_of, tokens_of

LINE_LENGTH = 120
CHOICES_LIMIT = 100
GIVEN_LIMIT = 1 << 20
ABSENT = object()
SCALARS = {"string", "number", "integer", "boolean"}


@dataclass(frozen=True)
class Choice:
    """A value to choose: how it reads, and its JSON text."""

    label: str
    json: str


@dataclass(frozen=True)
class Field:
    """One control. `pointer` is the RFC 6901 place of its value; "" is the whole document."""

    pointer: str
    label: str
    kind: str  # text, line, number, integer, boolean, choice, lines, json, file
    type: str
    required: bool
    help: str = ""
    items: str = ""  # of `lines`: the type of each
    choices: tuple[Choice, ...] = ()
    value: str = ""
    given: str = ""  # of `file`: base64 that an example brought along
    error: str = ""
    remedy: str = ""

    @property
    def name(self) -> str:
        """The control's name in the form; JSON text goes by a prefix of its own."""
        return f"{'j' if self.kind == 'json' else 'f'}{self.pointer}"

    @property
    def id(self) -> str:
        """An element id that no other control of the page has."""
        return "field" + self.pointer.replace("/", "-").replace("~", "_").replace(" ", "_")

    @property
    def help_id(self) -> str:
        return self.id + "-help"

    @property
    def error_id(self) -> str:
        return self.id + "-error"

    @property
    def given_size_bytes(self) -> int:
        """The size of the file that an example brought along."""
        return len(self.given) * 3 // 4 - self.given[-2:].count("=")


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow local references, a few steps at most; anything else is an open schema."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return schema
        place: Any = root
        for token in tokens_of(reference[1:]):
            place = place.get(token) if isinstance(place, Mapping) else None
        schema = place
    return {}


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        others = [each for each in kind if each != "null"]
        return others[0] if len(others) == 1 and isinstance(others[0], str) else ""
    return kind if isinstance(kind, str) else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _choice(value: Any) -> Choice:
    return Choice(value if isinstance(value, str) else json.dumps(value), json.dumps(value))


def _kind(schema: Mapping[str, Any], *, required: bool) -> tuple[str, str, tuple[Choice, ...]]:
    """The control, the item type of a list, and the choices."""
    options = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(options, list) and 0 < len(options) <= CHOICES_LIMIT:
        return "choice", "", tuple(_choice(option) for option in options)
    nullable = isinstance(schema.get("type"), list) and "null" in schema["type"]
    kind = _type_of(schema)
    if nullable and required:
        return "json", "", ()
    if kind == "string":
        if schema.get("contentEncoding") == "base64":
            return "file", "", ()
        longest = schema.get("maxLength")
        return ("line" if isinstance(longest, int) and longest <= LINE_LENGTH else "text"), "", ()
    if kind in ("integer", "number"):
        return kind, "", ()
    if kind == "boolean":
        if required or "default" in schema:
            return "boolean", "", ()
        return "choice", "", (_choice(True), _choice(False))
    if kind == "array":
        items = schema.get("items")
        each = _type_of(items) if isinstance(items, Mapping) and "enum" not in items else ""
        if each in SCALARS and not isinstance(items.get("type") if items else None, list):
            return "lines", each, ()
    return "json", "", ()


def _range(schema: Mapping[str, Any], low: str, high: str, unit: str = "") -> str:
    smallest, largest = schema.get(low), schema.get(high)
    if smallest is not None and largest is not None:
        return f", {smallest} to {largest}{unit}"
    if smallest is not None:
        return f", {smallest}{unit} or more"
    return f", up to {largest}{unit}" if largest is not None else ""


def _type_words(schema: Mapping[str, Any], kind: str, items: str) -> str:
    if kind == "choice":
        return "choice"
    if kind == "file":
        return "file"
    if kind == "lines":
        return f"{items}s, one per line" + _range(schema, "minItems", "maxItems")
    if kind in ("integer", "number"):
        return kind + _range(schema, "minimum", "maximum")
    if kind in ("text", "line"):
        return "string" + _range(schema, "minLength", "maxLength", " characters")
    return (
        _type_of(schema) + " as JSON"
        if kind == "json" and _type_of(schema)
        else kind.replace("json", "JSON")
    )


def form_fields(schema: Mapping[str, Any]) -> tuple[Field, ...]:
    """The controls for documents of this schema, required ones first in the order of the schema.

    A schema that is not an object with named properties becomes one control with JSON text.
    """
    root = _resolved(schema, schema)
    properties = root.get("properties")
    if (
        _type_of(root) not in ("object", "")
        or not isinstance(properties, Mapping)
        or not properties
    ):
        return (Field("", "document", "json", "JSON", True, help=str(root.get("description", ""))),)
    needed = root.get("required") if isinstance(root.get("required"), list) else []
    found = []
    for key, raw in properties.items():
        part = _resolved(raw, schema)
        required = key in (needed or [])
        kind, items, choices = _kind(part, required=required)
        default = part.get("default", ABSENT)
        field = Field(
            pointer=pointer_of([key]),
            label=str(part.get("title") or key),
            kind=kind,
            type=_type_words(part, kind, items),
            required=required,
            help=str(part.get("description", "")),
            items=items,
            choices=choices,
        )
        found.append(field if default is ABSENT else _with_value(field, default))
    return tuple(sorted(found, key=lambda field: not field.required))


def _with_value(field: Field, value: Any) -> Field:
    if field.kind == "file":
        text = value if isinstance(value, str) and len(value) <= GIVEN_LIMIT else ""
        return replace(field, given=text)
    if field.kind == "boolean":
        return replace(field, value="true" if value is True else "")
    if field.kind == "choice":
        return replace(field, value=_choice(value).label)
    if field.kind == "lines":
        lines = value if isinstance(value, list) else []
        texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
        # A line break inside an item cannot be told from the end of it: JSON text can.
        if not isinstance(value, list) or any("\n" in text or not text.strip() for text in texts):
            return replace(field, kind="json", value=_json(value))
        return replace(field, value="\n".join(texts))
    if field.kind == "json":
        return replace(field, value=_json(value))
    return replace(field, value=value if isinstance(value, str) else json.dumps(value))


def filled(fields: Sequence[Field], document: Any) -> tuple[Field, ...]:
    """The controls with the values of a document; a property without a control is left out."""
    if len(fields) == 1 and fields[0].pointer == "":
        return (_with_value(fields[0], document),)
    values = document if isinstance(document, Mapping) else {}
    return tuple(
        _with_value(field, values[key])
        if (key := tokens_of(field.pointer)[0]) in values
        else replace(field, value="", given="")
        for field in fields
    )


class _Refusal(Exception):
    def __init__(self, error: str, remedy: str) -> None:
        super().__init__(error)
        self.error = error
        self.remedy = remedy


def _no_constants(name: str) -> Any:
    raise ValueError(name)


def _parsed(text: str) -> Any:
    """The JSON value of a text. Raises ValueError, or RecursionError when it is too deep."""
    # Its own reader ends at a fixed depth, where the standard one may exhaust the C stack.
    orjson.loads(text)
    # This one keeps integers of any size.
    return json.loads(text, parse_constant=_no_constants)


def _number(text: str, *, whole: bool) -> int | float:
    try:
        value = _parsed(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, float) and whole and value.is_integer():
        value = int(value)
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not finite or (whole and not isinstance(value, int)):
        kind, example = ("whole number", "3") if whole else ("number", "0.5")
        raise _Refusal(f"“{text[:40]}” is not a {kind}.", f"Write a {kind} such as {example}.")
    assert isinstance(value, int | float)
    return value


def _scalar(text: str, kind: str) -> Any:
    if kind in ("integer", "number"):
        return _number(text.strip(), whole=kind == "integer")
    if kind == "boolean":
        if text.strip() not in ("true", "false"):
            raise _Refusal(f"“{text[:40]}” is not a boolean.", "Write true or false on each line.")
        return text.strip() == "true"
    return text


def _value(field: Field, text: str | None, file: bytes | None, given: str) -> Any:
    """The value of one control, or ABSENT. Raises _Refusal with the remedy."""
    text = (text or "").replace("\r\n", "\n")
    if field.kind == "file":
        if file is not None:
            return base64.b64encode(file).decode("ascii")
        if given:
            return given
        if field.required:
            raise _Refusal("No file was chosen.", "Choose a file.")
        return ABSENT
    if field.kind == "boolean":
        return text == "true"
    if field.kind == "choice":
        chosen = [choice for choice in field.choices if choice.label == text]
        if chosen:
            return json.loads(chosen[0].json)
        if text == "" and not field.required:
            return ABSENT
        raise _Refusal(
            "Nothing was chosen." if not text else f"“{text[:40]}” is no choice.",
            "Choose from the list.",
        )
    if field.kind in ("text", "line"):
        return text if text or field.required else ABSENT
    if field.kind == "lines":
        lines = [line for line in text.split("\n") if line.strip()]
        return [_scalar(line, field.items) for line in lines] if lines or field.required else ABSENT
    if not text.strip():
        if field.required:
            raise _Refusal("A value is needed.", "Fill it in, or load an example.")
        return ABSENT
    if field.kind in ("integer", "number"):
        return _number(text.strip(), whole=field.kind == "integer")
    try:
        return _parsed(text)
    except (ValueError, RecursionError) as error:
        place = (
            f" (line {error.lineno}, column {error.colno})"
            if isinstance(error, json.JSONDecodeError)
            else ""
        )
        raise _Refusal(
            f"This is not JSON{place}.",
            "Text stands in double quotes; no comma after the last item.",
        ) from None


def read_form(
    fields: Sequence[Field], data: Mapping[str, str], files: Mapping[str, bytes]
) -> tuple[Any, tuple[Field, ...]]:
    """The document that the form says, and the controls as sent, each with its error if it has one.

    `data` and `files` go by the controls' names. The document holds only what could be read: send
    it on only when no control has an error.
    """
    document: dict[str, Any] = {}
    whole: Any = ABSENT
    shown = []
    for blank in fields:
        field = replace(blank, kind="json") if f"j{blank.pointer}" in data else blank
        text = data.get(field.name)
        given = data.get(f"given{field.pointer}", "") if field.kind == "file" else ""
        sent = replace(field, value=text or "", given=given)
        try:
            value = _value(field, text, files.get(field.name), given)
        except _Refusal as refusal:
            shown.append(replace(sent, error=refusal.error, remedy=refusal.remedy))
            continue
        shown.append(sent if field.kind != "file" or value is ABSENT else _with_value(sent, value))
        if value is ABSENT:
            continue
        if field.pointer == "":
            whole = value
        else:
            document[tokens_of(field.pointer)[0]] = value
    return (document if whole is ABSENT else whole), tuple(shown)


def with_violations(
    fields: Sequence[Field], violations: Sequence[Mapping[str, Any]]
) -> tuple[tuple[Field, ...], tuple[Mapping[str, Any], ...]]:
    """Put violations beside the controls that hold their pointers; returns those and the rest."""
    places = {field.pointer: index for index, field in enumerate(fields)}
    marked = list(fields)
    rest = []
    for violation in violations:
        pointer = str(violation.get("pointer", ""))
        top = "/" + pointer.split("/")[1] if pointer.startswith("/") else ""
        index = places.get(top, places.get(""))
        if index is None or marked[index].error:
            rest.append(violation)
            continue
        detail = str(violation.get("detail", ""))
        inner = "" if pointer == marked[index].pointer else f"{pointer}: "
        marked[index] = replace(
            marked[index], error=inner + detail, remedy=str(violation.get("remedy", ""))
        )
    return tuple(marked), tuple(rest)
