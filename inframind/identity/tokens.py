"""How a token's MAC is derived: nothing that could be used is ever stored.

The root key of a token is HKDF-SHA256 (RFC 5869) of the server key with the token's id as info, and
the MAC is HMAC-SHA256 of the id under it, cut to 24 bytes. Whoever reads the database
learns ids only.
"""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from inframind.lib import bearer

_MAC_BYTES = 24


def root_key(server_key: str, token_id: UUID) -> bytes:
    """32 bytes that belong to this token alone."""
    return HKDF(
        algorithm=SHA256(), length=32, salt=b"inframind bearer token v1", info=token_id.bytes
    ).derive(server_key.encode())


def issue(server_key: str, token_id: UUID) -> str:
    """The token's text, to be shown once."""
    return bearer.encode(token_id, _mac(server_key, token_id))


def verify(server_key: str, text: str) -> UUID:
    """The id of a token that this server issued. Raises ``ValueError`` on any other text."""
    parsed = bearer.decode(text)
    if not hmac.compare_digest(parsed.mac, _mac(server_key, parsed.token_id)):
        raise ValueError("this server did not issue that token")
    return parsed.token_id


def _mac(server_key: str, token_id: UUID) -> bytes:
    key = root_key(server_key, token_id)
    return hmac.new(key, token_id.bytes, hashlib.sha256).digest()[:_MAC_BYTES]
