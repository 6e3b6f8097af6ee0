"""Bodies before anything else looks at them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.problem import Problem
from marketplace.gateway import body

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('a:"{[,é '),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('a:"{'), inner),
    max_leaves=20,
)


@given(document=DOCUMENTS)
def test_every_json_document_is_read_as_it_is(document: Any) -> None:
    assert body.read(json.dumps(document).encode(), max_bytes=1 << 20) == document


@pytest.mark.parametrize("levels", [1, 63, 64])
def test_nesting_up_to_the_limit_is_read(levels: int) -> None:
    assert body.read(b"[" * levels + b"]" * levels, max_bytes=1 << 20) is not None


@pytest.mark.parametrize("levels", [65, 1000, 100_000])
def test_deeper_nesting_is_refused(levels: int) -> None:
    with pytest.raises(Problem) as caught:
        body.read(b"[" * levels + b"]" * levels, max_bytes=1 << 20)
    assert caught.value.status == 422


def test_many_brackets_side_by_side_are_not_deep() -> None:
    assert body.read(b"[" + b",".join([b"[]"] * 200) + b"]", max_bytes=1 << 20) == [[]] * 200


def test_a_long_key_over_many_members_is_not_written_out_for_each() -> None:
    document: dict[str, list[Any]] = {"k" * 20_000: [[]] * 10_000}
    octets = json.dumps(document).encode()
    tracemalloc.start()
    try:
        assert body.read(octets, max_bytes=1 << 20) == document
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_the_place_that_is_too_deep_is_named() -> None:
    octets = b'{"a/b": [0, ' + b"[" * 63 + b"]" * 63 + b"]}"
    with pytest.raises(Problem) as caught:
        body.read(octets, max_bytes=1 << 20)
    assert caught.value.violations[0].pointer == "/a~1b/1" + "/0" * 62


def test_a_key_that_stands_twice_behind_many_others_is_found() -> None:
    names = [*map(str, range(200_000)), "twice", "twice"]
    octets = b"{" + b",".join(b'"%b":0' % name.encode() for name in names) + b"}"
    with pytest.raises(Problem) as caught:
        body.read(octets, max_bytes=len(octets))
    assert caught.value.violations[0].pointer == "/twice"


def test_a_key_that_stands_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(Problem) as caught:
        body.read(b'{"a": [{"b/c": 1, "b/c": 2}]}', max_bytes=1 << 20)
    assert caught.value.violations[0].pointer == "/b~1c"


def test_one_byte_over_the_limit_is_413() -> None:
    assert body.read(b'"abc"', max_bytes=5) == "abc"
    with pytest.raises(Problem) as caught:
        body.read(b'"abcd"', max_bytes=5)
    assert caught.value.status == 413
