"""JSON Schemas of strangers."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from marketplace.catalog.schemas import MAX_DEPTH, Validator, check_schema, validator_for


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


def test_a_sound_schema_has_nothing_against_it() -> None:
    assert check_schema({"type": "object", "properties": {"$ref": {"type": "string"}}}) == ()
    assert check_schema({"properties": {"child": {"$ref": "#"}}}) == ()


@pytest.mark.parametrize(
    ("schema", "pointer", "words"),
    [
        ({"$ref": "https://example.org/s.json"}, "/s/$ref", "nothing is fetched"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "/s/items/$ref", "nothing is fetched"),
        ({"$ref": "#/definitions/gone"}, "/s", "leads nowhere"),
        ({"$ref": "#"}, "/s/$ref", "back to itself"),
        ({"anyOf": [{"$ref": "#"}]}, "/s/anyOf/0/$ref", "back to itself"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "/s/$schema", "not read"),
        ({"type": "strng"}, "/s/type", "strng"),
        ({"pattern": "(?=a)b"}, "/s/pattern", "cannot be used"),
        ({"pattern": "(a"}, "/s/pattern", "cannot be used"),
        ({"pattern": "a{1000000}"}, "/s/pattern", "cannot be used"),
        (nested(MAX_DEPTH + 1), "/s", "levels deep"),
        ([], "/s", "mapping"),
        ({"enum": ["x" * 200_000]}, "/s", "bytes"),
    ],
)
def test_an_unusable_schema_is_refused_with_its_place(
    schema: Any, pointer: str, words: str
) -> None:
    first = check_schema(schema, pointer="/s")[0]
    assert first.pointer == pointer
    assert words in first.detail


def test_depth_has_a_limit_and_reaches_it() -> None:
    assert check_schema(nested(MAX_DEPTH)) == ()


def test_absurd_depth_costs_no_time() -> None:
    started = time.monotonic()
    assert check_schema(nested(50_000))
    assert time.monotonic() - started < 1


def test_a_remote_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        assert check_schema({"$ref": url})
        with pytest.raises(ValueError, match="cannot be used"):
            Validator({"properties": {"a": {"$ref": url}}}).violations({"a": 1})
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_catastrophic_pattern_is_fast() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    assert check_schema(schema) == ()
    validator = Validator(schema)
    started = time.monotonic()
    assert not validator.is_valid("a" * 100_000 + "!")
    assert time.monotonic() - started < 1


def test_violations_name_the_place_in_the_document() -> None:
    validator = Validator({"properties": {"a/b": {"items": {"type": "integer"}}}})
    assert [v.pointer for v in validator.violations({"a/b": [1, "x", 2, None]})] == [
        "/a~1b/1",
        "/a~1b/3",
    ]
    assert validator.violations({"a/b": [1]}) == ()


def test_at_most_twenty_violations_are_told() -> None:
    assert len(Validator({"items": {"type": "null"}}).violations([1] * 50)) == 20


def test_a_long_key_does_not_come_back_once_for_each_of_its_members() -> None:
    schema = {"additionalProperties": {"items": {"type": "null"}}}
    found = Validator(schema).violations({"k" * 1_000_000: [1] * 50})
    assert sum(len(each.pointer) + len(each.detail) for each in found) < 20 * 3_000


def test_a_key_with_another_schema_gets_another_validator() -> None:
    assert validator_for("k", {"type": "null"}).is_valid(None)
    assert not validator_for("k", {"type": "string"}).is_valid(None)
    same = {"type": "string"}
    assert validator_for("k", same) is validator_for("k", same)
