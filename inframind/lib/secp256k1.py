"""Ethereum's signatures over 32-byte digests, and the address that a key has."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import coincurve

from inframind.lib.addresses import checksum_address

__all__ = ["ORDER", "address_of_key", "key_from", "recover", "sign"]

DIGEST_BYTES: Final = 32
SIGNATURE_BYTES: Final = 65
ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def key_from(octets: bytes) -> bytes:
    """A valid 32-byte private key out of 32 bytes or more of key material.

    With 40 bytes or more, the result is as good as evenly distributed.
    """
    if len(octets) < DIGEST_BYTES:
        raise ValueError(f"A key takes at least {DIGEST_BYTES} bytes of material.")
    return (int.from_bytes(octets, "big") % (ORDER - 1) + 1).to_bytes(DIGEST_BYTES, "big")


def address_of_key(key: bytes) -> str:
    """The checksummed address of a 32-byte private key. Raises ValueError for what is no key."""
    return _address_of(_private(key).public_key)


def sign(key: bytes, digest: bytes) -> bytes:
    """The 65-byte signature ``r ‖ s ‖ v`` of a digest: v is 27 or 28, s is in the lower half.

    The same key and digest give the same signature (RFC 6979). Raises ValueError.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"A digest has {DIGEST_BYTES} bytes, not {len(digest)}.")
    signature = _private(key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([signature[64] + 27])


def recover(digest: bytes, signature: bytes) -> str:
    """The checksummed address whose key signed the digest.

    Raises ValueError for a signature that is malformed, of no key, or has s in the upper half: of
    the two forms of every signature only one counts.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"A digest has {DIGEST_BYTES} bytes, not {len(digest)}.")
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28):
        raise ValueError("A signature has 65 bytes, the last of them 27 or 28.")
    if int.from_bytes(signature[32:64], "big") > ORDER // 2:
        raise ValueError("The signature is not in its canonical form.")
    recoverable = signature[:64] + bytes([signature[64] - 27])
    try:
        public = coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
    # coincurve raises plain Exceptions for what the curve has no point for.
    except Exception as error:
        raise ValueError("The signature is not one of any key.") from error
    return _address_of(public)


@lru_cache(maxsize=16)
def _private(key: bytes) -> coincurve.PrivateKey:
    if len(key) != DIGEST_BYTES:
        raise ValueError(f"A private key has {DIGEST_BYTES} bytes, not {len(key)}.")
    if not 0 < int.from_bytes(key, "big") < ORDER:
        raise ValueError("This is no private key of the curve.")
    return coincurve.PrivateKey(key)


def _address_of(public: coincurve.PublicKey) -> str:
    # The keccak extension is absent where only the command line client is installed.
    import sha3

    point = public.format(compressed=False)[1:]
    return checksum_address("0x" + sha3.keccak_256(point).hexdigest()[24:])
