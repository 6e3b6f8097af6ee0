"""Control secrets of nodes, encrypted at rest with a key from SECRET_KEY."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class SecretUnreadable(Exception):
    """A stored secret was sealed with another SECRET_KEY."""


def seal(secret: str) -> bytes:
    """The encrypted form of a control secret; an empty one stays empty."""
    return _cipher().encrypt(secret.encode()) if secret else b""


def unseal(sealed: bytes | memoryview) -> str:
    """The secret again. Raises ``SecretUnreadable`` when SECRET_KEY has changed since."""
    if not sealed:
        return ""
    try:
        return _cipher().decrypt(bytes(sealed)).decode()
    except InvalidToken:
        raise SecretUnreadable(
            "The node's control secret was stored under another SECRET_KEY. "
            "Register the node again, or restore the old SECRET_KEY."
        ) from None


def _cipher() -> Fernet:
    key = HKDF(
        algorithm=hashes.SHA256(), length=32, salt=None, info=b"inframind mesh control secrets"
    ).derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(key))
