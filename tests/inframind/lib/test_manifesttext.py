"""Cutting the allow list out of a manifest's text: the rest stays to the letter."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.lib.manifesttext import AllowListStays, without_allow_list

ONE = "0x" + "1" * 40
TWO = "0x" + "2" * 40

CASES = {
    "block": (
        f"name: a\naccess:\n  public: false\n  allow_list:  # friends\n    - '{ONE}'\n"
        f'    # and one more\n    - "{TWO}"  # two\n\n# about the task\ntask: ocr\n',
        "name: a\naccess:\n  public: false\n\n# about the task\ntask: ocr\n",
    ),
    "block, list not indented": (
        f"access:\n  # first\n  allow_list:\n  - '{ONE}'\n  - '{TWO}'\n  public: false\n",
        "access:\n  # first\n  public: false\n",
    ),
    "block with a flow list": (
        f"access:\n  allow_list: ['{ONE}',\n    '{TWO}']\n  public: false\nname: a\n",
        "access:\n  public: false\nname: a\n",
    ),
    "flow": (
        f"access: {{public: false, allow_list: ['{ONE}', '{TWO}']}}  # who\nname: a\n",
        "access: {public: false}  # who\nname: a\n",
    ),
    "flow, in front": (
        f"access: {{allow_list: ['{ONE}', '{TWO}'], public: false}}\n",
        "access: {public: false}\n",
    ),
    "flow with comments": (
        f"access: {{public: false, # shut\n  allow_list: ['{ONE}', '{TWO}'] # open\n}}\n",
        "access: {public: false # shut\n   # open\n}\n",
    ),
    "alone, block": (
        f"access:  # who\n  allow_list:\n    - '{ONE}'\n    - '{TWO}'\nname: a\n",
        "access: {}  # who\nname: a\n",
    ),
    "alone, flow": (f"access: {{allow_list: ['{ONE}', '{TWO}']}}\n", "access: {}\n"),
    "json": (
        f'{{"name": "a", "access": {{"allow_list": ["{ONE}", "{TWO}"], "public": false}}}}',
        '{"name": "a", "access": {"public": false}}',
    ),
    "windows lines, no end": (
        f"name: a\r\naccess:\r\n  public: false\r\n  allow_list:\r\n    - '{ONE}'\r\n    - '{TWO}'",
        "name: a\r\naccess:\r\n  public: false\r\n",
    ),
    "byte order mark, letters outside ASCII": (
        f"\ufeffdescription: Größe 😀\naccess: {{public: false, allow_list: ['{ONE}', '{TWO}']}}\n",
        "\ufeffdescription: Größe 😀\naccess: {public: false}\n",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_list_is_cut_and_the_rest_stays_to_the_letter(case: str) -> None:
    given_text, expected = CASES[case]
    assert without_allow_list(given_text.encode()) == (expected.encode(), (ONE, TWO))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"name: a\n",
        b"access: {public: false}\n",
        b"allow_list: ['0x1']\n",
        b"examples: [{access: {allow_list: [a]}}]\n",
        b"access: {allow_list: 0x1}\n",
        b"access: {allow_list: [[a]]}\n",
        b"access: allow_list\n",
        b"access: {allow_list: [\n",
        b"\xff\xfe",
        b"- access\n",
        b"a: 1\n---\nb: 2\n",
        b"[" * 5000,
    ],
)
def test_what_has_no_list_or_is_no_manifest_comes_back_as_it_is(text: bytes) -> None:
    assert without_allow_list(text) == (text, ())


def test_an_empty_list_is_cut_too() -> None:
    assert without_allow_list(b"access: {public: false, allow_list: []}\n") == (
        b"access: {public: false}\n",
        (),
    )


@pytest.mark.parametrize(
    "text",
    [
        "access:\n  public: false\n  allow_list: &list ['0x1']\nother: *list\n",
        "access: {allow_list: [a], allow_list: [b], public: false}\n",
        "access: {allow_list: [a]}\naccess: {public: false}\n",
        "access:\n  ? allow_list\n  : [a]\n  public: false\n",
        "access: {public: false, ? allow_list : [a]}\n",
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(AllowListStays, match=r"remove it from model\.yaml"):
        without_allow_list(text.encode())


_WORDS = st.text("abcdefgh: #,[]{}'\"-\\é😀\n", max_size=12)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)
_ADDRESSES = st.text("0123456789abcdefABCDEF", min_size=40, max_size=40).map("0x{}".format)


@settings(deadline=None)
@given(
    before=st.dictionaries(_WORDS, _VALUES, max_size=3),
    access=st.dictionaries(_WORDS, _VALUES, max_size=3),
    allow_list=st.lists(_ADDRESSES, max_size=4),
    position=st.integers(0, 3),
    after=st.dictionaries(_WORDS, _VALUES, max_size=3),
    flow=st.sampled_from([True, False, None]),
    indent=st.integers(2, 6),
    width=st.sampled_from([20, 80, 10_000]),
)
def test_whatever_surrounds_the_list_means_the_same_without_it(
    before: dict[str, Any],
    access: dict[str, Any],
    allow_list: list[str],
    position: int,
    after: dict[str, Any],
    flow: bool | None,
    indent: int,
    width: int,
) -> None:
    pairs = [pair for pair in access.items() if pair[0] != "allow_list"]
    pairs.insert(min(position, len(pairs)), ("allow_list", allow_list))
    document = {**before, "access": dict(pairs), **after, "access": dict(pairs)}  # noqa: F601
    text = yaml.safe_dump(
        document,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=flow,
        indent=indent,
        width=width,
    ).encode()
    cut, addresses = without_allow_list(text)
    assert addresses == tuple(allow_list)
    expected = {**document, "access": {key: value for key, value in pairs if key != "allow_list"}}
    assert yaml.safe_load(cut) == expected
    assert without_allow_list(cut) == (cut, ())
    if allow_list:
        assert not any(address.encode() in cut for address in allow_list)
