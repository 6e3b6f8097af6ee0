"""Control secrets of nodes, encrypted at rest with a key from SECRET_KEY."""

from __future__ import annotations

from typing import Final

from django.conf import settings

from inframind.lib.wrapping import WrappedUnder, unwrap, wrap

_PURPOSE: Final = "inframind mesh control secrets"


class SecretUnreadable(Exception):
    """A stored secret was sealed with another SECRET_KEY."""


def seal(secret: str) -> bytes:
    """The encrypted form of a control secret; an empty one stays empty."""
    return wrap(secret, key=settings.SECRET_KEY, purpose=_PURPOSE) if secret else b""


def unseal(sealed: bytes | memoryview) -> str:
    """The secret again. Raises ``SecretUnreadable`` when SECRET_KEY has changed since."""
    if not sealed:
        return ""
    try:
        return unwrap(sealed, key=settings.SECRET_KEY, purpose=_PURPOSE)
    except WrappedUnder:
        raise SecretUnreadable(
            "The node's control secret was stored under another SECRET_KEY. "
            "Register the node again, or restore the old SECRET_KEY."
        ) from None
