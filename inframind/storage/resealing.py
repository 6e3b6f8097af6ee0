"""Sealing the same content to the same bytes again, so that a damaged sealed package is repaired.

A version's CID never changes, and age draws fresh randomness for every file. All of it is in the
file's head, which is kept, so that whoever has the head, the key and the content has the file.
The format is age's (age-encryption.org/v1); whether the bytes came out right, their CID says.
"""

import base64
import itertools
from collections.abc import Iterator
from typing import IO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_CHUNK_BYTES: Final = 64 << 10
_NONCE_BYTES: Final = 16
_BECH32: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHECKSUM_CHARACTERS: Final = 6


class HeadUnusable(ValueError):
    """The head does not belong to this key."""


def reseal(pieces: Iterator[bytes], *, head: bytes, secret: str, into: IO[bytes]) -> None:
    """Writes the file that was made of this content with this head. Raises HeadUnusable."""
    cipher = ChaCha20Poly1305(_derived(_file_key(head, secret), head[-_NONCE_BYTES:], b"payload"))
    into.write(head)
    count = 0
    pending = b""
    for piece in pieces:
        pending += piece
        # The last chunk is marked, so one is always held back.
        while len(pending) > _CHUNK_BYTES:
            into.write(cipher.encrypt(_nonce(count, last=False), pending[:_CHUNK_BYTES], None))
            pending = pending[_CHUNK_BYTES:]
            count += 1
    into.write(cipher.encrypt(_nonce(count, last=True), pending, None))


def _file_key(head: bytes, secret: str) -> bytes:
    private = X25519PrivateKey.from_private_bytes(_secret_bytes(secret))
    public = private.public_key().public_bytes_raw()
    lines = head.split(b"\n")
    for line, body in itertools.pairwise(lines):
        if not line.startswith(b"-> X25519 "):
            continue
        share = _base64(line.removeprefix(b"-> X25519 "))
        shared = private.exchange(X25519PublicKey.from_public_bytes(share))
        key = _derived(shared, share + public, b"age-encryption.org/v1/X25519")
        try:
            return ChaCha20Poly1305(key).decrypt(bytes(12), _base64(body), None)
        except InvalidTag:
            continue
    raise HeadUnusable("This head was not made for the key.")


def _secret_bytes(secret: str) -> bytes:
    """The 32 bytes of `AGE-SECRET-KEY-1…`, which is Bech32."""
    number = 0
    data = secret.lower().rpartition("1")[2][:-_CHECKSUM_CHARACTERS]
    for letter in data:
        number = number << 5 | _BECH32.index(letter)
    return (number >> (5 * len(data) - 256)).to_bytes(32)


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=info).derive(key)


def _nonce(count: int, *, last: bool) -> bytes:
    return count.to_bytes(11) + bytes([last])


def _base64(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))
