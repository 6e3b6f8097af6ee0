"""The fast digest of a call's document beside the canonical one."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inframind.lib import canonical
from marketplace.gateway.digests import digest_of_parsed

numbers = (
    st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(width=16, allow_nan=False, allow_infinity=False)
    | st.integers(-100, 100).map(float)
    | st.sampled_from([1e15, 1e16, 1e20, 1e21, 1e22, 1e-5, 1e-6, 1e-7, -0.0, 123456789012345.5])
)
texts = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["1.0", "3e7", "\u2028", "\x7f", '\x01\b\f\n\r\t"\\/', "12345678901234567"])
    | st.text(st.sampled_from("\ud7ff\ue000\uffff\U00010000\U0010ffffa"), max_size=3)
)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
)


@given(document=documents)
@example(document={"\uffff": 1, "\U00010000": 2})
@example(document=[0.1, 1.5, 2.25])
@example(document=[1.0])
@example(document=1.0)
@example(document={"a": -0.0})
@example(document=[9007199254740993])
def test_it_is_the_canonical_digest_of_every_document_that_is_read(document: Any) -> None:
    read = orjson.loads(orjson.dumps(document))
    try:
        expected = canonical.digest(read)
    except ValueError:
        with pytest.raises(ValueError, match="JSON"):
            digest_of_parsed(read)
    else:
        assert digest_of_parsed(read) == expected


@given(text=st.text(st.sampled_from('0123456789.eE+-,:[]{}" '), max_size=40))
def test_no_number_as_it_is_written_slips_through(text: str) -> None:
    try:
        read = orjson.loads(text)
        expected = canonical.digest(read)
    except ValueError:
        return
    assert digest_of_parsed(read) == expected


@pytest.mark.parametrize("depth", [199, 200, 201, 300])
def test_depth_is_bounded_alike(depth: int) -> None:
    read = orjson.loads("[" * depth + "]" * depth)
    if depth <= canonical.MAX_DEPTH + 1:
        assert digest_of_parsed(read) == canonical.digest(read)
    else:
        with pytest.raises(ValueError, match="nested deeper"):
            digest_of_parsed(read)


def test_the_fast_way_is_taken_for_the_documents_that_most_calls_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(canonical, "digest")
    for document in (
        {"text": "the quick brown fox", "b": [1, 2, True, None]},
        {"label": "english", "scores": [0.98231, 1e-05 * 1e5 / 3, 0.3333333333333333]},
        {"text": "In 1990 it was 3.5 times — as much."},
    ):
        compact = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()
        assert digest_of_parsed(document) == f"sha256:{hashlib.sha256(compact).hexdigest()}"
