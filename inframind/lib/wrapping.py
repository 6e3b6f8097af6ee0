"""Secrets at rest: encrypted and authenticated under a key that is kept outside the database."""

from __future__ import annotations

import base64

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class WrappedUnder(ValueError):
    """The secret was wrapped under another key, or for another purpose, or is damaged."""


def wrap(secret: str, *, key: str, purpose: str) -> bytes:
    """The encrypted form of a secret; what is wrapped for one purpose opens for no other."""
    return _cipher(key, purpose).encrypt(secret.encode())


def unwrap(wrapped: bytes | memoryview, *, key: str, purpose: str) -> str:
    """The secret again. Raises WrappedUnder."""
    try:
        return _cipher(key, purpose).decrypt(bytes(wrapped)).decode()
    except InvalidToken:
        raise WrappedUnder("This was wrapped under another key.") from None


def _cipher(key: str, purpose: str) -> Fernet:
    derived = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=purpose.encode())
    return Fernet(base64.urlsafe_b64encode(derived.derive(key.encode())))
