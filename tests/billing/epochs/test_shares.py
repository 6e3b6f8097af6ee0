"""The rule of shares: rounded once, in the payee's disfavour, and nothing lost or made."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.epochs.shares import BASIS_POINTS, Payee, share_of, split

OWNERS = st.sampled_from(["0xA", "0xB", "0xC"])
STREAMS = st.sampled_from([bytes(32), bytes([1]) * 32])
FEES = st.integers(0, 10**24)
CALLS = st.lists(st.tuples(OWNERS, OWNERS, STREAMS, st.sampled_from([1, 2]), FEES), max_size=30)
PARTS = st.tuples(st.integers(0, BASIS_POINTS), st.integers(0, BASIS_POINTS)).map(
    lambda pair: (min(pair), max(pair) - min(pair))
)


@given(calls=CALLS, first=PARTS, second=PARTS)
def test_shares_and_rest_are_the_revenue_to_the_unit(
    calls: list[tuple[str, str, bytes, int, int]],
    first: tuple[int, int],
    second: tuple[int, int],
) -> None:
    points = {
        (version, share): bps
        for version, pair in ((1, first), (2, second))
        for share, bps in zip(("node", "owner"), pair, strict=True)
    }
    parts = [
        (Payee(payee, stream, share, version), 1, fee)
        for owner, node, stream, version, fee in calls
        for share, payee in (("owner", owner), ("node", node))
    ]
    revenue = sum(fee for *_, fee in calls)
    found = split(revenue, parts, points)
    assert sum(line.amount_base_units for line in found.lines) + found.rest_base_units == revenue
    assert found.rest_base_units >= 0
    for share in ("owner", "node"):
        of_share = [line for line in found.lines if line.payee.share == share]
        assert sum(line.gross_base_units for line in of_share) == revenue
    for line in found.lines:
        exact = Fraction(
            line.gross_base_units * points[line.payee.parameters_version, line.payee.share],
            BASIS_POINTS,
        )
        assert exact - 1 < line.amount_base_units <= exact
    # Rounding down costs the payees less than one unit a line, and the treasury gets it.
    exact_rest = revenue - sum(
        Fraction(
            line.gross_base_units * points[line.payee.parameters_version, line.payee.share],
            BASIS_POINTS,
        )
        for line in found.lines
    )
    assert exact_rest <= found.rest_base_units < exact_rest + max(len(found.lines), 1)


@given(calls=CALLS, seed=st.randoms())
def test_the_order_and_grouping_of_parts_do_not_matter(
    calls: list[tuple[str, str, bytes, int, int]], seed: object
) -> None:
    points = {(version, "owner"): 6_000 for version in (1, 2)}
    parts = [
        (Payee(owner, stream, "owner", version), 1, fee) for owner, _, stream, version, fee in calls
    ]
    revenue = sum(fee for *_, fee in calls)
    shuffled = list(parts)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert split(revenue, parts, points) == split(revenue, shuffled, points)


def test_a_sum_is_rounded_once_and_not_call_by_call() -> None:
    payee = Payee("0xA", bytes(32), "node", 1)
    found = split(9, [(payee, 1, 3)] * 3, {(1, "node"): 3_000})
    assert [line.amount_base_units for line in found.lines] == [2]  # call by call it were 0
    assert found.rest_base_units == 7


def test_what_has_no_payee_and_what_is_free_makes_no_line_but_dust_does() -> None:
    parts = [
        (Payee("", bytes(32), "node", 1), 1, 10),
        (Payee("0xA", bytes(32), "owner", 1), 4, 0),
        (Payee("0xB", bytes(32), "owner", 1), 1, 1),
    ]
    found = split(11, parts, {(1, "node"): 3_000, (1, "owner"): 6_000})
    assert [(line.payee.address, line.amount_base_units) for line in found.lines] == [("0xB", 0)]
    assert found.rest_base_units == 11


def test_more_shares_of_one_kind_than_fees_are_refused() -> None:
    parts = [(Payee("0xA", bytes(32), "owner", 1), 1, 10)] * 2
    with pytest.raises(ValueError, match="the epoch took 19"):
        split(19, parts, {(1, "owner"): 6_000})


def test_shares_that_come_to_more_than_the_revenue_are_refused() -> None:
    parts = [(Payee("0xA", bytes(32), share, 1), 1, 10) for share in ("owner", "node")]
    with pytest.raises(ValueError, match="more than the epoch took"):
        split(10, parts, {(1, "owner"): 6_000, (1, "node"): 6_000})


def test_a_negative_fee_and_an_unknown_share_are_refused() -> None:
    with pytest.raises(ValueError, match="credited with"):
        split(10, [(Payee("0xA", bytes(32), "owner", 1), 1, -1)], {(1, "owner"): 6_000})
    with pytest.raises(KeyError):
        split(10, [(Payee("0xA", bytes(32), "other", 1), 1, 1)], {(1, "owner"): 6_000})


@pytest.mark.parametrize(
    ("fees", "bps", "share"),
    [(0, 6_000, 0), (1, 9_999, 0), (1, 10_000, 1), (10_000, 1, 1), (9_999, 1, 0),
     (10**60 + 9_999, 3_000, 3 * 10**59 + 2_999)],
)  # fmt: skip
def test_a_share_is_rounded_down(fees: int, bps: int, share: int) -> None:
    assert share_of(fees, bps) == share
