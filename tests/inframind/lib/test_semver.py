import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.semver import Version, normalize, order_key


@pytest.mark.parametrize(
    ("text", "strict"),
    [("1", "1.0.0"), ("1.0", "1.0.0"), ("1.2.3", "1.2.3"), ("2.1-beta.1+x.7", "2.1.0-beta.1+x.7")],
)
def test_short_forms_are_filled_up(text: str, strict: str) -> None:
    assert normalize(text) == strict


@pytest.mark.parametrize(
    "text",
    ["", "v1.0", "01.0.0", "1.02", "1.0.0-01", "1.0.0-", "1.0.0+", "1..0", "1.0.0.0", "-1",
     "1.0 .0", "1.0.0-a..b", "１.0.0", "1" * 65, "1-" + "a" * 62, "latest"],
)  # fmt: skip
def test_what_is_not_a_version_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"1\.0\.0"):
        normalize(text)


def test_the_strict_reader_refuses_short_forms() -> None:
    with pytest.raises(ValueError):
        Version.parse("1.0")
    assert str(Version.parse("1.0.0-rc.1+b5")) == "1.0.0-rc.1+b5"


def test_precedence_is_the_one_of_the_specification() -> None:
    ordered = [
        "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
        "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.9.0", "1.10.0", "2.0.0",
    ]  # fmt: skip
    for lower, higher in itertools.pairwise(ordered):
        assert order_key(lower) < order_key(higher)
    assert order_key("1.0.0+a") == order_key("1.0.0+b")


@given(st.tuples(*[st.integers(0, 10**9)] * 3))
def test_normalizing_twice_changes_nothing(numbers: tuple[int, int, int]) -> None:
    text = ".".join(map(str, numbers))
    assert normalize(text) == text
    assert order_key(text)[:3] == numbers
