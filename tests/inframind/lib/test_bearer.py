"""The text form of tokens, and their narrowing without a server."""

from __future__ import annotations

import hmac
import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib import bearer
from inframind.lib.scopes import Caveat

MACS = st.binary(min_size=24, max_size=24)
CAVEATS = st.lists(st.binary(min_size=1, max_size=200), max_size=5).map(tuple)
KEY = bytes(range(32))
TOKEN_ID = UUID(int=7)


def spelled(body: str) -> str:
    """A text with a right checksum, whatever its body is."""
    return f"infra_{body}{bearer._digits(zlib.crc32(body.encode()), 6)}"


def issued() -> str:
    return bearer.encode(TOKEN_ID, bearer.root_mac(KEY, TOKEN_ID))


def verifies(text: str) -> bool:
    """What a server does: the chain from its own root has to end at the MAC that was sent."""
    held = bearer.decode(text)
    root = bearer.root_mac(KEY, held.token_id)
    return hmac.compare_digest(held.mac, (root, *bearer.chain(root, held.caveats))[-1])


@given(st.uuids(), MACS, CAVEATS)
def test_what_is_encoded_is_decoded(token_id: UUID, mac: bytes, caveats: tuple[bytes, ...]) -> None:
    text = bearer.encode(token_id, mac, caveats)
    assert bearer.decode(text) == bearer.BearerText(token_id, mac, caveats)


@given(st.uuids(), MACS)
def test_a_token_without_caveats_has_66_characters(token_id: UUID, mac: bytes) -> None:
    assert len(bearer.encode(token_id, mac)) == bearer.LENGTH == 66


@given(st.uuids(), MACS, CAVEATS, st.data())
def test_one_changed_character_is_noticed(
    token_id: UUID, mac: bytes, caveats: tuple[bytes, ...], data: st.DataObject
) -> None:
    text = bearer.encode(token_id, mac, caveats)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place]))
    with pytest.raises(ValueError):
        bearer.decode(text[:place] + other + text[place + 1 :])


@given(st.uuids(), MACS, CAVEATS, st.data())
def test_a_cut_token_is_noticed(
    token_id: UUID, mac: bytes, caveats: tuple[bytes, ...], data: st.DataObject
) -> None:
    text = bearer.encode(token_id, mac, caveats)
    with pytest.raises(ValueError):
        bearer.decode(text[: data.draw(st.integers(0, len(text) - 1))])


@given(st.text(max_size=200))
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bearer.decode(text)


@given(st.text(alphabet=bearer._ALPHABET, min_size=54, max_size=300))
def test_a_text_that_decodes_is_the_only_spelling_of_what_it_says(body: str) -> None:
    try:
        found = bearer.decode(spelled(body))
    except ValueError:
        return
    assert bearer.encode(found.token_id, found.mac, found.caveats) == spelled(body)


@given(st.uuids(), MACS, CAVEATS)
def test_leading_zeros_are_no_second_spelling(
    token_id: UUID, mac: bytes, caveats: tuple[bytes, ...]
) -> None:
    body = bearer.encode(token_id, mac, caveats)[len(bearer.PREFIX) : -6]
    for more in ("0", "00", "000"):
        try:
            found = bearer.decode(spelled(more + body))
        except ValueError:
            continue
        assert found != bearer.BearerText(token_id, mac, caveats)


def test_every_length_has_its_own_number_of_digits() -> None:
    digits = [bearer._digits_for(size) for size in range(40, 3060)]
    assert digits == sorted(set(digits))
    for size, count in zip(range(40, 3060), digits, strict=True):
        assert 62 ** (count - 1) < 256**size <= 62**count
        assert int(count * bearer._BITS_PER_DIGIT / 8) == size


def test_a_body_above_the_largest_payload_is_refused_not_crashed_on() -> None:
    with pytest.raises(ValueError, match="not an InfraMind token"):
        bearer.decode(spelled("z" * 54))


@pytest.mark.parametrize("size", [55, 56])
def test_a_number_of_digits_that_no_payload_has_is_refused(size: int) -> None:
    assert size not in {bearer._digits_for(40), bearer._digits_for(43)}
    with pytest.raises(ValueError):
        bearer.decode(spelled("0" * size))


def test_a_mac_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        bearer.encode(UUID(int=1), b"short")


@pytest.mark.parametrize("text", ["infra_" + "a" * 1_000_000, "x" * 1_000_000])
def test_a_text_above_the_limit_is_refused_before_it_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="not an InfraMind token"):
        bearer.decode(text)


def test_a_token_is_narrowed_five_times_and_no_more() -> None:
    text = issued()
    for left in range(5, 0, -1):
        text = bearer.narrow(text, Caveat(calls_limit=left))
        assert verifies(text)
    with pytest.raises(ValueError, match="narrowed 5 times"):
        bearer.narrow(text, Caveat(calls_limit=1))


def test_six_caveats_are_refused_even_with_a_right_mac() -> None:
    caveats = (b"1",) * 6
    mac = bearer.chain(bearer.root_mac(KEY, TOKEN_ID), caveats)[-1]
    parts = [b"\0\1" + caveat for caveat in caveats]
    payload = TOKEN_ID.bytes + b"".join(parts) + mac
    body = bearer._digits(int.from_bytes(payload), bearer._digits_for(len(payload)))
    with pytest.raises(ValueError, match="more than 5 times"):
        bearer.decode(spelled(body))


def test_a_token_that_would_be_too_long_is_not_made() -> None:
    wide = Caveat(models=frozenset(f"model-{number:050d}" for number in range(90)))
    with pytest.raises(ValueError, match="longer than 4096 characters"):
        bearer.narrow(issued(), wide)


@given(st.integers(1, 5), st.data())
def test_no_caveat_can_be_dropped_edited_swapped_or_forged(depth: int, data: st.DataObject) -> None:
    text = issued()
    for number in range(depth):
        text = bearer.narrow(text, Caveat(calls_limit=number + 1))
    held = bearer.decode(text)
    place = data.draw(st.integers(0, depth - 1))
    caveats = list(held.caveats)
    kind = data.draw(st.sampled_from(["drop", "edit", "swap", "repeat", "cut"]))
    if kind == "drop":
        del caveats[place]
    elif kind == "edit":
        caveats[place] = Caveat(calls_limit=1_000_000).as_bytes()
    elif kind == "swap":
        caveats.reverse()
    elif kind == "repeat":
        caveats[place : place + 1] = [caveats[place]] * 2
    else:
        caveats = caveats[:place]
    unchanged = tuple(caveats) == held.caveats
    if len(caveats) <= bearer.MAX_DEPTH:
        forged = bearer.encode(held.token_id, held.mac, caveats)
        assert verifies(forged) == unchanged
    assert verifies(text)


@given(st.uuids())
def test_a_narrowing_does_not_fit_another_token(other: UUID) -> None:
    held = bearer.decode(bearer.narrow(issued(), Caveat(calls_limit=1)))
    assert verifies(bearer.encode(other, held.mac, held.caveats)) == (other == TOKEN_ID)


def test_the_ids_of_a_chain_follow_from_its_macs_and_differ() -> None:
    same = Caveat(calls_limit=3)
    first = bearer.narrow(issued(), same)
    second = bearer.narrow(first, Caveat(calls_limit=3))
    held = bearer.decode(second)
    macs = bearer.chain(bearer.root_mac(KEY, TOKEN_ID), held.caveats)
    ids = tuple(map(bearer.narrowing_id, macs))
    assert ids[-1] == bearer.narrowing_id(held.mac)
    assert ids[0] == bearer.narrowing_id(bearer.decode(first).mac)
    assert len(set(ids)) == 2
