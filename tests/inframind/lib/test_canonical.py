import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.canonical import canonical_json, digest

_DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), children, max_size=4)
    ),
    max_leaves=20,
)


def test_the_examples_of_rfc_8785_come_out_byte_for_byte() -> None:
    document = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical_json(document).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (1e21, "1e+21"), (999999999999999900000.0, "999999999999999900000"), (1e-6, "0.000001"),
        (1e-7, "1e-7"), (9.999999999999997e22, "9.999999999999997e+22"), (-123.456, "-123.456"),
        (1.0, "1"), (100.0, "100"), (0.1, "0.1"), (333333333.3333332, "333333333.3333332"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_ecmascript_writes_them(number: float, text: str) -> None:
    assert canonical_json(number).decode() == text


def test_keys_are_sorted_by_utf16_code_units() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical_json(dict.fromkeys(keys, 0)))) == ordered


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 2**53 + 1, 10**400])
def test_numbers_that_json_cannot_keep_are_refused(number: float) -> None:
    with pytest.raises(ValueError):
        canonical_json([number])


def test_other_types_keys_surrogates_and_depth_are_refused() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match="deeper"):
        canonical_json(deep)
    with pytest.raises(ValueError, match="surrogate"):
        canonical_json("\ud800")
    with pytest.raises(TypeError):
        canonical_json({1: 2})
    with pytest.raises(TypeError):
        canonical_json({"a": {1, 2}})


def test_the_digest_ignores_order_and_names_its_algorithm() -> None:
    assert digest({"b": 1, "a": [True]}) == digest({"a": [True], "b": 1.0})
    assert digest({}) == ("sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")


@given(_DOCUMENTS)
def test_reading_it_back_gives_the_document_and_the_same_bytes(document: object) -> None:
    text = canonical_json(document)
    assert json.loads(text, parse_int=float) == document
    assert canonical_json(json.loads(text)) == text
