"""The same call in three languages: each must say exactly the document."""

import ast
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.storefront.snippets import INLINE_LIMIT, python_literal, shell_literal, snippets

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="ascii")), inner),
    max_leaves=12,
)


@given(documents)
def test_the_shell_reads_back_the_document(document: object) -> None:
    words = shlex.split(shell_literal(document))
    assert [json.loads(word) for word in words] == [document]


@given(documents)
def test_python_reads_back_the_document(document: object) -> None:
    assert ast.literal_eval(python_literal(document)) == document


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("needs_token", [False, True])
def test_the_python_snippet_is_python_and_names_the_token_only_where_needed(
    needs_token: bool, streaming: bool
) -> None:
    snippet = snippets(
        "http://h/inference/v1/m",
        {"a": [True, None]},
        needs_token=needs_token,
        streaming=streaming,
    )[1]
    text = snippet.before + snippet.document + snippet.after
    ast.parse(text)
    assert ("INFRA_TOKEN" in text) == needs_token


@pytest.mark.parametrize("streaming", [False, True])
def test_every_snippet_asks_for_events_only_where_they_come(streaming: bool) -> None:
    found = snippets("http://h/x", {"text": "a"}, needs_token=True, streaming=streaming)
    assert ["text/event-stream" in each.before for each in found] == [streaming] * 3


def test_a_long_document_is_taken_from_a_file() -> None:
    found = snippets("http://h/x", {"text": "x" * INLINE_LIMIT}, needs_token=False)
    assert [snippet.writer for snippet in found] == ["", "", ""]
    assert all("input.json" in snippet.document for snippet in found)
