"""Signatures: the same as eth-account's, and only their canonical form counts."""

from __future__ import annotations

import secrets

import pytest
from eth_account import Account

from inframind.lib import secp256k1

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
DIGEST = bytes(range(32))


def test_address_and_signature_are_those_of_eth_account() -> None:
    for _ in range(50):
        key, digest = secrets.token_bytes(32), secrets.token_bytes(32)
        account = Account.from_key(key)
        signature = secp256k1.sign(key, digest)
        assert signature == bytes(account.unsafe_sign_hash(digest).signature)
        assert secp256k1.address_of_key(key) == account.address
        assert secp256k1.recover(digest, signature) == account.address


def test_the_other_form_of_a_signature_is_refused() -> None:
    signature = secp256k1.sign(KEY, DIGEST)
    upper = secp256k1.ORDER - int.from_bytes(signature[32:64], "big")
    other = signature[:32] + upper.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])
    with pytest.raises(ValueError, match="canonical"):
        secp256k1.recover(DIGEST, other)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(65),
        bytes(64) + b"\x1b",
        b"\xff" * 32 + bytes(31) + b"\x01\x1b",
        bytes(64) + b"\x1d",
    ],
)
def test_what_is_no_signature_is_a_value_error(signature: bytes) -> None:
    with pytest.raises(ValueError):
        secp256k1.recover(DIGEST, signature)


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32, bytes(31) + b"\x01\x00"])
def test_what_is_no_key_is_a_value_error(key: bytes) -> None:
    with pytest.raises(ValueError):
        secp256k1.address_of_key(key)
    with pytest.raises(ValueError):
        secp256k1.sign(key, DIGEST)


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(ValueError):
        secp256k1.sign(KEY, b"short")
    with pytest.raises(ValueError):
        secp256k1.recover(b"short", secp256k1.sign(KEY, DIGEST))


def test_any_material_of_32_bytes_or_more_makes_a_key() -> None:
    for material in (bytes(32), b"\xff" * 32, secp256k1.ORDER.to_bytes(32, "big"), b"\xff" * 48):
        secp256k1.address_of_key(secp256k1.key_from(material))
    with pytest.raises(ValueError):
        secp256k1.key_from(b"too little")
