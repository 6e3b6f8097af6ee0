import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.amounts import format_ifm, parse_ifm


@pytest.mark.parametrize("text", ["0.25 IFM", "0.25IFM", "0.25", " 0.25 ifm ", "0.250000"])
def test_every_way_to_write_a_quarter_ifm_is_the_same_amount(text: str) -> None:
    assert parse_ifm(text) == 250_000_000_000_000_000


def test_the_smallest_unit_and_zero_are_exact() -> None:
    assert parse_ifm("0.000000000000000001 IFM") == 1
    assert parse_ifm("0") == 0
    assert format_ifm(1) == "0.000000000000000001 IFM"
    assert format_ifm(0) == "0 IFM"
    assert format_ifm(-(10**18) // 2) == "-0.5 IFM"


@pytest.mark.parametrize(
    "text",
    [
        "", "IFM", "NaN", "inf", "-1", "+1", "1e3", "1,5", "1_000", ".5", "5.", "0x10", "1 ETH",
        "1 2", "٣", "1.0.0", "1 IFM IFM", "9" * 41, "0." + "0" * 18 + "1",
    ],
)  # fmt: skip
def test_what_is_not_a_plain_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_ifm(text)


def test_an_absurd_length_is_refused_with_its_length() -> None:
    with pytest.raises(ValueError, match="this one has 5000"):
        parse_ifm("1" * 5000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("9" * 41, "There is not so much IFM: 41 digits"),
        ("", "There is no amount"),
        (" IFM", "There is no amount"),
        ("-1", "'-1' is not an amount"),
    ],
)
def test_the_refusal_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_ifm(text)


def test_too_many_decimals_say_how_many_to_leave_out() -> None:
    with pytest.raises(ValueError, match="Leave out the last 2"):
        parse_ifm("0.12345678901234567890")


@given(st.integers(min_value=0, max_value=10**40))
def test_format_and_parse_are_inverse(base_units: int) -> None:
    assert parse_ifm(format_ifm(base_units)) == base_units
