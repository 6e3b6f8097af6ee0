"""How an answer's JSON is laid out for reading."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from marketplace.storefront.readable import LINE_WIDTH, readable_json

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(DOCUMENTS)
def test_the_layout_changes_nothing_of_the_document(document: Any) -> None:
    assert json.loads(readable_json(document)) == document


def test_the_corners_of_a_box_stay_on_one_line() -> None:
    assert readable_json({"box": [[15, 15], [207, 39]], "text": "INVOICE"}) == (
        '{\n  "box": [[15, 15], [207, 39]],\n  "text": "INVOICE"\n}'
    )


def test_objects_open_one_field_to_a_line_and_empty_ones_do_not() -> None:
    assert readable_json({"lines": [{"at": 1}], "none": {}, "nothing": []}) == (
        '{\n  "lines": [\n    {\n      "at": 1\n    }\n  ],\n  "none": {},\n  "nothing": []\n}'
    )


def test_a_long_vector_fills_its_lines() -> None:
    lines = readable_json({"vector": [index / 8 for index in range(256)]}).splitlines()
    assert max(map(len, lines)) <= LINE_WIDTH + len(",")
    assert len(lines) < 40
