import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.pointer import escape, pointer_of, tokens_of


@pytest.mark.parametrize(
    ("tokens", "pointer"),
    [([], ""), ([""], "/"), (["a", 0], "/a/0"), (["a/b", "m~n"], "/a~1b/m~0n"), (["~1"], "/~01")],
)
def test_places_are_written_as_the_standard_says(tokens: list[str | int], pointer: str) -> None:
    assert pointer_of(tokens) == pointer
    assert tokens_of(pointer) == [str(token) for token in tokens]


@given(st.lists(st.text()))
def test_a_pointer_leads_back_to_its_tokens(tokens: list[str]) -> None:
    assert tokens_of(pointer_of(tokens)) == tokens
    assert all("/" not in escape(token) for token in tokens)
