"""Secrets at rest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.lib.wrapping import WrappedUnder, unwrap, wrap


@settings(deadline=None)
@given(secret=st.text(st.characters(codec="utf-8"), max_size=80), key=st.text(max_size=20))
def test_what_was_wrapped_opens_to_itself(secret: str, key: str) -> None:
    wrapped = wrap(secret, key=key, purpose="test")
    assert unwrap(wrapped, key=key, purpose="test") == secret


@pytest.mark.parametrize(("key", "purpose"), [("other", "test"), ("key", "other")])
def test_another_key_or_purpose_does_not_open_it(key: str, purpose: str) -> None:
    wrapped = wrap("a secret", key="key", purpose="test")
    assert b"secret" not in wrapped
    with pytest.raises(WrappedUnder):
        unwrap(wrapped, key=key, purpose=purpose)


def test_damage_is_noticed() -> None:
    wrapped = wrap("a secret", key="key", purpose="test")
    for damaged in (wrapped[:-1], b"", b"nonsense", b"A" + wrapped):
        with pytest.raises(WrappedUnder):
            unwrap(damaged, key="key", purpose="test")
