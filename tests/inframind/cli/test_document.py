"""Input documents from pairs, texts and files."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.cli.document import checked, from_pairs, read_input
from inframind.cli.refusal import EXIT_USAGE, Refusal

KEYS = st.text(st.characters(codec="utf-8", exclude_characters="=@:"), min_size=1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(KEYS, st.text(st.characters(codec="utf-8")).filter(lambda t: t[:1] != "@")))
def test_texts_arrive_as_they_were_typed(document: dict[str, str]) -> None:
    assert json.loads(from_pairs([f"{key}={value}" for key, value in document.items()])) == document


@given(st.dictionaries(KEYS, JSON))
def test_json_values_arrive_as_they_were_typed(document: dict[str, object]) -> None:
    pairs = [f"{key}:={json.dumps(value)}" for key, value in document.items()]
    assert json.loads(from_pairs(pairs)) == document


def test_files_arrive_as_base64_or_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    path.write_bytes("héllo".encode())
    document = json.loads(from_pairs([f"bytes@{path}", f"text=@{path}"]))
    assert document == {"bytes": base64.b64encode("héllo".encode()).decode(), "text": "héllo"}


def test_the_first_separator_counts() -> None:
    assert json.loads(from_pairs(["text=a:=b@c=d", "mail=x@example.org"])) == {
        "text": "a:=b@c=d",
        "mail": "x@example.org",
    }


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("alone", "'alone' is not a property."),
        ("=value", "'=value' is not a property."),
        ("n:=[1,", "n: is not JSON: Expecting value at line 1, column 4."),
        ("n:=NaN", "n: is not JSON: NaN is not a JSON number."),
        ("content@missing", "content: missing cannot be read: No such file or directory."),
    ],
)
def test_a_pair_that_cannot_be_read_is_wrong_usage(pair: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        from_pairs([pair])
    assert (refused.value.document["detail"], refused.value.exit_code) == (words, EXIT_USAGE)


def test_a_property_given_twice_is_wrong_usage() -> None:
    with pytest.raises(Refusal, match="'a' is given twice"):
        from_pairs(["a=1", "a=2"])


def test_a_file_goes_out_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "test.json"
    path.write_bytes(b'{ "n": 1.000000000000000000001 }\n')
    assert read_input(str(path)) == b'{ "n": 1.000000000000000000001 }\n'


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 201 + b"1" + b"}" * 201])
def test_depth_beyond_the_parser_is_wrong_usage(data: bytes) -> None:
    with pytest.raises(Refusal, match="more than 200 levels deep"):
        checked(data, "--data")


@pytest.mark.parametrize(
    "data", [b'{"a": "' + b"[" * 300 + b'\\"["}', b"[[]," * 100 + b"1" + b"]" * 100]
)
def test_brackets_in_texts_and_beside_each_other_are_not_depth(data: bytes) -> None:
    assert checked(data, "--data") == data
