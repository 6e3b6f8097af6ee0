"""The text form of tokens."""

from __future__ import annotations

import zlib
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib import bearer

MACS = st.binary(min_size=24, max_size=24)


@given(st.uuids(), MACS)
def test_what_is_encoded_is_decoded(token_id: UUID, mac: bytes) -> None:
    text = bearer.encode(token_id, mac)
    assert len(text) == bearer.LENGTH
    assert bearer.decode(text) == bearer.BearerText(token_id, mac)


@given(st.uuids(), MACS, st.data())
def test_one_changed_character_is_noticed(token_id: UUID, mac: bytes, data: st.DataObject) -> None:
    text = bearer.encode(token_id, mac)
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != text[place]))
    with pytest.raises(ValueError):
        bearer.decode(text[:place] + other + text[place + 1 :])


@given(st.text(max_size=200))
def test_noise_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        bearer.decode(text)


def test_a_body_above_the_largest_payload_is_refused_not_crashed_on() -> None:
    body = "z" * 54
    check = bearer._digits(zlib.crc32(body.encode()), 6)
    with pytest.raises(ValueError, match="not an InfraMind token"):
        bearer.decode(f"infra_{body}{check}")


def test_a_mac_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="24 bytes"):
        bearer.encode(UUID(int=1), b"short")
