"""Forms from schemas, and documents from forms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.storefront.schema_form import (
    Field,
    filled,
    form_fields,
    read_form,
    with_violations,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["text", "scores"],
    "properties": {
        "count": {"type": "integer", "minimum": 1, "maximum": 20},
        "text": {"type": "string", "title": "Text", "description": "What to read."},
        "title": {"type": "string", "maxLength": 80},
        "ratio": {"type": "number"},
        "mode": {"enum": ["lead", 2, None]},
        "strict": {"type": "boolean"},
        "scores": {"type": "boolean"},
        "words": {"type": "array", "items": {"type": "string"}},
        "limits": {"type": "array", "items": {"type": "integer"}},
        "options": {"type": "object", "properties": {"a": {"type": "string"}}},
        "picture": {"type": "string", "contentEncoding": "base64"},
    },
}


def _sent(fields: tuple[Field, ...]) -> dict[str, str]:
    """What a browser sends for the controls as they stand."""
    data = {}
    for field in fields:
        if field.kind == "file":
            if field.given:
                data[f"given{field.pointer}"] = field.given
        elif field.kind != "boolean" or field.value:
            data[field.name] = field.value
    return data


def test_each_kind_of_property_has_its_control() -> None:
    kinds = {field.pointer: field.kind for field in form_fields(SCHEMA)}
    assert kinds == {
        "/text": "text",
        "/scores": "boolean",
        "/count": "integer",
        "/title": "line",
        "/ratio": "number",
        "/mode": "choice",
        "/strict": "choice",
        "/words": "lines",
        "/limits": "lines",
        "/options": "json",
        "/picture": "file",
    }


def test_required_controls_come_first_and_carry_title_and_help() -> None:
    first = form_fields(SCHEMA)[0]
    assert (first.label, first.help, first.required) == ("Text", "What to read.", True)
    assert form_fields(SCHEMA)[2].type == "integer, 1 to 20"


def test_an_example_comes_back_from_the_form_as_it_went_in() -> None:
    example = {
        "text": "",
        "scores": False,
        "count": 3,
        "ratio": 0.5,
        "mode": 2,
        "strict": True,
        "words": ["a b", "c"],
        "limits": [1, 2],
        "options": {"a": "x", "b": [None]},
        "picture": "aGVsbG8=",
    }
    fields = filled(form_fields(SCHEMA), example)
    document, shown = read_form(fields, _sent(fields), {})
    assert document == example
    assert not any(field.error for field in shown)


def test_empty_optional_controls_are_absent_from_the_document() -> None:
    fields = form_fields(SCHEMA)
    document, _ = read_form(fields, {"f/text": "hi"}, {})
    assert document == {"text": "hi", "scores": False}


def test_items_with_line_breaks_go_as_json() -> None:
    fields = filled(form_fields(SCHEMA), {"words": ["two\nlines", "b"]})
    words = next(field for field in fields if field.pointer == "/words")
    assert words.kind == "json"
    document, _ = read_form(form_fields(SCHEMA), _sent(fields), {})
    assert document["words"] == ["two\nlines", "b"]


def test_a_chosen_file_replaces_the_one_of_the_example() -> None:
    fields = form_fields(SCHEMA)
    document, _ = read_form(
        fields, {"f/text": "", "given/picture": "aGVsbG8="}, {"f/picture": b"\x00\xff"}
    )
    assert document["picture"] == "AP8="


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("f/count", "abc", "“abc” is not a whole number."),
        ("f/count", "1.5", "“1.5” is not a whole number."),
        ("f/count", "1_0", "“1_0” is not a whole number."),
        ("f/ratio", "NaN", "“NaN” is not a number."),
        ("f/ratio", "1e999", "“1e999” is not a number."),
        ("f/mode", "other", "“other” is no choice."),
        ("f/limits", "1\ntwo", "“two” is not a whole number."),
        ("j/options", "{", "This is not JSON (line 1, column 2)."),
        ("j/options", "[NaN]", "This is not JSON (line 1, column 2)."),
        ("j/options", "[" * 100_000, "This is not JSON (line 1, column 1026)."),
    ],
)
def test_what_cannot_be_read_is_told_beside_its_control(name: str, text: str, error: str) -> None:
    _, shown = read_form(form_fields(SCHEMA), {"f/text": "", name: text}, {})
    wrong = [field for field in shown if field.error]
    assert [(field.pointer, field.error) for field in wrong] == [(name[1:], error)]
    assert wrong[0].remedy
    assert wrong[0].value == text


def test_a_required_choice_or_file_must_be_made() -> None:
    schema = {
        "type": "object",
        "required": ["mode", "file"],
        "properties": {
            "mode": {"enum": ["a"]},
            "file": {"type": "string", "contentEncoding": "base64"},
        },
    }
    _, shown = read_form(form_fields(schema), {}, {})
    assert [field.error for field in shown] == ["Nothing was chosen.", "No file was chosen."]


def test_a_whole_number_written_as_float_is_whole() -> None:
    document, _ = read_form(form_fields(SCHEMA), {"f/text": "", "f/count": "3.0"}, {})
    assert document["count"] == 3


def test_a_schema_without_properties_is_one_json_control() -> None:
    fields = form_fields({"type": "array", "items": {"type": "number"}})
    assert [(field.pointer, field.kind) for field in fields] == [("", "json")]
    assert read_form(fields, {"j": "[1, 2]"}, {})[0] == [1, 2]


def test_property_names_with_slashes_and_tildes_keep_their_pointer() -> None:
    schema = {"type": "object", "properties": {"a/b~c": {"type": "string"}}}
    fields = form_fields(schema)
    assert fields[0].pointer == "/a~1b~0c"
    assert read_form(fields, {"f/a~1b~0c": "x"}, {})[0] == {"a/b~c": "x"}


def test_local_references_are_followed_and_circles_end() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"$ref": "#/definitions/n"}, "loop": {"$ref": "#/properties/loop"}},
        "definitions": {"n": {"type": "integer"}},
    }
    assert [field.kind for field in form_fields(schema)] == ["integer", "json"]


def test_violations_stand_beside_the_control_that_holds_their_pointer() -> None:
    marked, rest = with_violations(
        form_fields(SCHEMA),
        [
            {"pointer": "/count", "detail": "99 is larger than 20", "remedy": "Less."},
            {"pointer": "/words/3", "detail": "is no string"},
            {"pointer": "/unknown", "detail": "is unknown"},
        ],
    )
    errors = {field.pointer: (field.error, field.remedy) for field in marked if field.error}
    assert errors == {
        "/count": ("99 is larger than 20", "Less."),
        "/words": ("/words/3: is no string", ""),
    }
    assert [each["pointer"] for each in rest] == ["/unknown"]


_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)


@given(
    st.fixed_dictionaries(
        {
            "text": st.text(st.characters(codec="utf-8", exclude_characters="\r")),
            "scores": st.booleans(),
        },
        optional={
            "count": st.integers(),
            "ratio": st.floats(allow_nan=False, allow_infinity=False),
            "mode": st.sampled_from(["lead", 2, None]),
            "strict": st.booleans(),
            "words": st.lists(
                st.text(st.characters(codec="utf-8", exclude_characters="\r")), min_size=1
            ),
            "limits": st.lists(st.integers(), min_size=1),
            "options": st.dictionaries(st.text(), _scalars),
        },
    )
)
def test_any_document_of_the_schema_survives_the_form(document: dict[str, Any]) -> None:
    fields = filled(form_fields(SCHEMA), document)
    read, shown = read_form(form_fields(SCHEMA), _sent(fields), {})
    assert not any(field.error for field in shown)
    assert read == document
