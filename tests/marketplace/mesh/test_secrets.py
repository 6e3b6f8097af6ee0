"""Control secrets at rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.mesh.secrets import SecretUnreadable, seal, unseal


@given(secret=st.text(st.characters(codec="utf-8"), max_size=80))
def test_a_sealed_secret_opens_to_itself(secret: str) -> None:
    assert unseal(seal(secret)) == secret


def test_another_key_does_not_open_it(settings: Any) -> None:
    sealed = seal("a control secret")
    assert b"control" not in sealed
    settings.SECRET_KEY = "another key altogether"
    with pytest.raises(SecretUnreadable, match="SECRET_KEY"):
        unseal(sealed)
