"""Pure rules: precedence, tolerance, generation."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib import semver
from marketplace.catalog import lifecycle
from marketplace.catalog.generation import generate, prepared, unrolled
from marketplace.catalog.tolerance import difference

numbers = st.integers(0, 10**12).map(str)
identifiers = st.one_of(numbers, st.from_regex(r"[a-zA-Z-][0-9a-zA-Z-]{0,5}", fullmatch=True))
versions = st.builds(
    lambda core, pre: ".".join(core) + (f"-{'.'.join(pre)}" if pre else ""),
    st.tuples(numbers, numbers, numbers),
    st.lists(identifiers, max_size=3),
)
documents: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(versions, versions)
def test_precedence_sorts_as_bytes_in_semver_order(left: str, right: str) -> None:
    by_text = lifecycle.precedence(left).encode() < lifecycle.precedence(right).encode()
    assert by_text == (semver.order_key(left) < semver.order_key(right))


def test_the_longest_version_fits_its_column() -> None:
    longest = "1.0.0-" + ".".join(["1"] * 29)
    assert (len(longest), len(lifecycle.precedence(longest)) <= 255) == (63, True)


@given(documents)
def test_a_document_agrees_with_itself(document: Any) -> None:
    assert difference(document, document) is None


@given(documents, documents)
def test_without_tolerance_agreement_is_equality_and_symmetric(left: Any, right: Any) -> None:
    assert (difference(left, right) is None) == (difference(right, left) is None)


@given(st.floats(-1e9, 1e9), st.floats(0, 100), st.floats(0, 1), st.floats(-2, 2))
def test_a_number_may_lie_within_absolute_plus_relative(
    golden: float, absolute: float, relative: float, share: float
) -> None:
    allowed = absolute + relative * abs(golden)
    actual = golden + share * allowed
    expected = actual == golden or abs(actual - golden) <= allowed
    found = difference({"a": [actual]}, {"a": [golden]}, absolute=absolute, relative=relative)
    assert (found is None) == expected


@pytest.mark.parametrize(
    ("actual", "golden", "words"),
    [
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "/a/b/1 is 2, not 3"),
        ({"a": 1}, {"a": 1, "b/c": 2}, "/b~1c is missing"),
        ({"a": 1, "b": 2}, {"a": 1}, "/b is not in the golden output"),
        ([1], [1, 2], "/ has 1 items, not 2"),
        (True, 1, "/ is True, not 1"),
        (math.nan, math.nan, "/ is nan, not nan"),
        (math.inf, 1.0, "/ is inf, not 1.0"),
        ("1", 1, "/ is '1', not 1"),
    ],
)
def test_the_first_difference_is_named(actual: Any, golden: Any, words: str) -> None:
    assert difference(actual, golden, absolute=0.5) == words


def drawn(schema: dict[str, Any], seed: int = 1, timeout_seconds: float = 30) -> list[Any]:
    return generate(schema, count=30, seed=seed, timeout_seconds=timeout_seconds)


def test_a_seed_gives_the_same_inputs_again_and_another_seed_others() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}
    first = drawn(schema)
    assert (len(first), first == drawn(schema), first == drawn(schema, seed=2)) == (30, True, False)


def test_inputs_are_drawn_as_a_call_can_carry_them() -> None:
    schema = {"type": "integer", "minimum": 2**70, "maximum": 2**70 + 2**40}
    assert {type(each) for each in generate(schema, count=5, seed=1, timeout_seconds=30)} == {float}


def test_base64_is_generated_as_base64() -> None:
    found = drawn({"type": "string", "contentEncoding": "base64"})
    assert (len(found), all(len(text) % 4 == 0 for text in found)) == (30, True)


def test_a_schema_that_holds_itself_is_unrolled() -> None:
    schema = {
        "type": "object",
        "properties": {"child": {"$ref": "#"}},
        "additionalProperties": False,
    }
    assert len(drawn(schema)) >= 2


def test_a_schema_that_allows_nothing_gives_nothing() -> None:
    assert drawn({"allOf": [{"type": "string"}, {"type": "null"}]}) == []


def test_generation_ends_when_its_time_is_over() -> None:
    assert drawn({"type": "string"}, timeout_seconds=0.01) == []


def test_references_that_double_each_time_are_refused() -> None:
    definitions = {f"d{n}": {"anyOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(30)}
    with pytest.raises(ValueError, match="too large"):
        unrolled({"$ref": "#/definitions/d0", "definitions": {**definitions, "d30": {}}})


def test_a_pattern_of_another_dialect_is_left_to_the_validator() -> None:
    assert prepared({"pattern": r"^\p{L}+$", "const": {"pattern": "("}}) == {
        "const": {"pattern": "("}
    }
