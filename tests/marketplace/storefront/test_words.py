"""How figures and ages read."""

import datetime
from decimal import Decimal

import pytest

from marketplace.storefront.templatetags import storefront as tags

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (59, "just now"),
        (240, "4 min ago"),
        (7_200, "2 h ago"),
        (86_400 * 3, "3 d ago"),
        (86_400 * 800, "2 y ago"),
        (-30, "in under 1 min"),
        (-86_400 * 3, "in 3 d"),
        (-86_399, "in 24 h"),
        (-86_400 * 14 + 1, "in 14 d"),
        (-3_600 * 5 - 1_799, "in 5 h"),
        (86_399, "23 h ago"),
    ],
)
def test_an_age_has_one_unit(seconds: int, words: str) -> None:
    assert tags.age_words(NOW - datetime.timedelta(seconds=seconds), NOW) == words


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100"), (0.9996, "99.9"), (0.99, "99"), (0.0, "0"), (0.57, "57")],
)
def test_a_percentage_is_never_rounded_up(share: float, text: str) -> None:
    assert tags.percent(share) == f'{text}<span class="unit">%</span>'


def test_an_amount_is_exact_in_its_attribute() -> None:
    shown = tags.ifm(Decimal(250_000_000_000_000_001))
    assert 'data-base-units="250000000000000001"' in shown
    assert tags.ifm(0) == '<span class="amount" data-base-units="0">free</span>'


def test_short_identifiers_stay_whole() -> None:
    assert tags.shorten("0123456789abcdef0") == "0123456789abcdef0"
    assert tags.shorten("0x" + "a" * 40) == "0xaaaaaa…aaaaaa"


def test_a_size_has_its_largest_unit() -> None:
    assert [tags.data_size(size) for size in (0, 1023, 1536, 3_145_728, 5 << 30)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.84, "0.8ms"), (12.4, "12ms"), (999.0, "999ms"), (1234.0, "1.2s")]
)
def test_a_latency_has_a_readable_unit(value: float, text: str) -> None:
    number, _, unit = tags.milliseconds(value).partition('<span class="unit">')
    assert number + unit.removesuffix("</span>") == text
