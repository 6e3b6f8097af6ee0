"""What tokens allow, and that narrowing only ever takes away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.scopes import (
    ACTIONS,
    MAX_BASE_UNITS,
    MAX_COUNT,
    MAX_UNIX_TIME,
    Caveat,
    Scope,
    check_ip_ranges,
    in_ranges,
)

MODELS = ("agent-vault", "summarizer-v1", "filetype-v1", "doubler")
RANGES = (
    "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.168.0.0/16", "0.0.0.0/0",
    "::/0", "2001:db8::/32", "2001:db8:1::/48", "::ffff:10.1.0.0/112",
)  # fmt: skip
ADDRESSES = (
    "10.1.2.3", "::ffff:10.1.2.3", "192.168.7.7", "2001:db8:1::5", "2001:db8:2::5", "8.8.8.8", "",
)  # fmt: skip
LATEST = 2_000


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(values: Any) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(sorted(values)), min_size=1)


CAVEATS = st.builds(
    Caveat,
    models=optional(some(MODELS)),
    actions=optional(some(ACTIONS)),
    expires_at=optional(st.integers(1, LATEST)),
    spend_limit_base_units=optional(st.integers(0, 50)),
    calls_limit=optional(st.integers(1, 50)),
    ip_ranges=optional(some(RANGES).map(tuple)),
)
SCOPES = st.builds(
    Scope,
    actions=some({*ACTIONS, "account"}),
    models=optional(st.frozensets(st.sampled_from(MODELS))),
    owned_only=st.booleans(),
    expires_at=optional(st.integers(1, LATEST)),
    spend_limit_base_units=optional(st.integers(0, 50)),
    calls_limit=optional(st.integers(1, 50)),
    ip_ranges=optional(some(RANGES).map(lambda ranges: check_ip_ranges(ranges))),
)
USES = st.fixed_dictionaries(
    {
        "action": st.sampled_from(sorted({*ACTIONS, "account"})),
        "model": optional(st.sampled_from(MODELS)),
        "at": st.integers(0, LATEST),
        "owned": st.booleans(),
        "calls": st.integers(1, 60),
        "spend_base_units": st.integers(0, 60),
        "address": st.sampled_from(ADDRESSES),
    }
)


def allowed_by_itself(caveat: Caveat, use: dict[str, Any]) -> bool:
    """What a caveat says, read without the code under test."""
    return (
        (caveat.models is None or use["model"] is None or use["model"] in caveat.models)
        and (caveat.actions is None or use["action"] in caveat.actions)
        and (caveat.expires_at is None or use["at"] < caveat.expires_at)
        and (caveat.calls_limit is None or use["calls"] <= caveat.calls_limit)
        and (
            caveat.spend_limit_base_units is None
            or use["spend_base_units"] <= caveat.spend_limit_base_units
        )
        and (caveat.ip_ranges is None or in_ranges(use["address"], caveat.ip_ranges))
    )


@given(SCOPES, st.lists(CAVEATS, min_size=1, max_size=5), USES)
def test_a_child_never_allows_what_its_parent_does_not(
    scope: Scope, caveats: list[Caveat], use: dict[str, Any]
) -> None:
    for caveat in caveats:
        child = scope.narrowed(caveat)
        if child.allows(**use):
            assert scope.allows(**use)
            assert allowed_by_itself(caveat, use)
        scope = child


@given(SCOPES, CAVEATS, USES)
def test_a_child_allows_whatever_both_its_parent_and_its_caveat_allow(
    scope: Scope, caveat: Caveat, use: dict[str, Any]
) -> None:
    both = scope.allows(**use) and allowed_by_itself(caveat, use) and use["action"] != "account"
    assert scope.narrowed(caveat).allows(**use) == both


@given(SCOPES, CAVEATS)
def test_a_child_never_acts_for_the_account(scope: Scope, caveat: Caveat) -> None:
    assert "account" not in scope.narrowed(caveat).actions


@given(SCOPES, CAVEATS, CAVEATS, USES)
def test_the_order_of_caveats_does_not_change_what_they_allow(
    scope: Scope, first: Caveat, second: Caveat, use: dict[str, Any]
) -> None:
    one, other = scope.narrowed(first).narrowed(second), scope.narrowed(second).narrowed(first)
    assert one.allows(**use) == other.allows(**use)


@given(CAVEATS)
def test_a_caveat_is_read_as_it_was_written(caveat: Caveat) -> None:
    assert Caveat.parse(caveat.as_bytes()) == caveat


@given(CAVEATS, st.sampled_from([" ", "\n", "\t"]), st.data())
def test_a_second_spelling_of_a_caveat_is_refused(
    caveat: Caveat, space: str, data: st.DataObject
) -> None:
    text = caveat.as_bytes().decode()
    place = data.draw(st.sampled_from([0, 1, len(text) - 1, len(text)]))
    with pytest.raises(ValueError):
        Caveat.parse((text[:place] + space + text[place:]).encode())


NONCE = '"nonce":"0123456789abcdef"'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        "{}",
        '{"calls":5}',
        f'{{{NONCE},"region":"eu"}}',
        f'{{"calls":5,"calls":5,{NONCE}}}',
        f'{{"calls":9,"calls":5,{NONCE}}}',
        f'{{{NONCE},"calls":5}}',
        f'{{"calls":true,{NONCE}}}',
        f'{{"calls":5.0,{NONCE}}}',
        f'{{"calls":"5",{NONCE}}}',
        f'{{"calls":null,{NONCE}}}',
        f'{{"calls":0,{NONCE}}}',
        f'{{"calls":-1,{NONCE}}}',
        f'{{"calls":{MAX_COUNT + 1},{NONCE}}}',
        f'{{"calls":1e2,{NONCE}}}',
        f'{{"calls":NaN,{NONCE}}}',
        f'{{"expires":{MAX_UNIX_TIME + 1},{NONCE}}}',
        f'{{"expires":{"9" * 5000},{NONCE}}}',
        f'{{"actions":[],{NONCE}}}',
        f'{{"actions":["account"],{NONCE}}}',
        f'{{"actions":["destroy"],{NONCE}}}',
        f'{{"actions":["publish","invoke"],{NONCE}}}',
        f'{{"actions":["invoke","invoke"],{NONCE}}}',
        f'{{"actions":"invoke",{NONCE}}}',
        f'{{"models":[],{NONCE}}}',
        f'{{"models":[7],{NONCE}}}',
        f'{{"models":["Agent-Vault"],{NONCE}}}',
        f'{{"models":["a--b"],{NONCE}}}',
        f'{{"ip":[],{NONCE}}}',
        f'{{"ip":["10.0.0.1/8"],{NONCE}}}',
        f'{{"ip":["10.0.0.1"],{NONCE}}}',
        f'{{"ip":["::ffff:10.0.0.0/104"],{NONCE}}}',
        f'{{"ip":["fe80::1%eth0/128"],{NONCE}}}',
        f'{{"ip":["2001:DB8::/32"],{NONCE}}}',
        f'{{{NONCE},"spend":5}}',
        f'{{{NONCE},"spend":"05"}}',
        f'{{{NONCE},"spend":"-1"}}',
        f'{{{NONCE},"spend":"{"9" * 79}"}}',
        '{"nonce":"0123456789ABCDEF"}',
        '{"nonce":""}',
        '{"nonce":7}',
        "[" * 2000,
        '{"models":' + "[" * 1000 + "]" * 1000 + "}",
    ],
)
def test_a_caveat_that_is_not_understood_is_refused_not_ignored(text: str) -> None:
    with pytest.raises(ValueError):
        Caveat.parse(text.encode())


@pytest.mark.parametrize("octets", [b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"\x80"])
def test_a_caveat_in_another_encoding_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError):
        Caveat.parse(octets)


def test_the_largest_limits_are_kept_exactly() -> None:
    caveat = Caveat(
        calls_limit=MAX_COUNT, spend_limit_base_units=MAX_BASE_UNITS, expires_at=MAX_UNIX_TIME
    )
    again = Caveat.parse(caveat.as_bytes())
    assert (again.calls_limit, again.spend_limit_base_units) == (MAX_COUNT, MAX_BASE_UNITS)
    assert json.loads(caveat.as_bytes())["spend"] == str(MAX_BASE_UNITS)


@pytest.mark.parametrize(
    "wish",
    [
        {"calls_limit": True},
        {"calls_limit": 0},
        {"spend_limit_base_units": -1},
        {"spend_limit_base_units": MAX_BASE_UNITS + 1},
        {"models": frozenset()},
        {"models": frozenset(f"model-{number}" for number in range(101))},
        {"actions": frozenset({"account"})},
        {"ip_ranges": ()},
        {"ip_ranges": tuple(f"10.0.{number}.0/24" for number in range(21))},
        {"nonce": "short"},
    ],
)
def test_a_caveat_that_could_not_be_kept_is_not_made(wish: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Caveat(**wish)


@pytest.mark.parametrize(
    ("address", "ranges", "inside"),
    [
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("::ffff:10.1.2.3", ("10.0.0.0/8",), True),
        ("10.1.2.3", ("::ffff:10.0.0.0/104",), True),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("2001:db9::1", ("2001:db8::/32",), False),
        ("fe80::1%eth0", ("fe80::/10",), True),
        ("10.1.2.3", ("::/0",), False),
        ("", ("0.0.0.0/0",), False),
        ("testclient", ("0.0.0.0/0", "::/0"), False),
    ],
)
def test_an_address_lies_in_a_range_or_not(
    address: str, ranges: tuple[str, ...], inside: bool
) -> None:
    assert in_ranges(address, check_ip_ranges(ranges)) == inside


def test_ranges_that_share_nothing_leave_no_address() -> None:
    scope = Scope(actions=ACTIONS, ip_ranges=("10.0.0.0/8",))
    left = scope.narrowed(Caveat(ip_ranges=("192.168.0.0/16",)))
    assert left.ip_ranges == ()
    assert not any(left.allows("invoke", at=0, address=address) for address in ADDRESSES)
