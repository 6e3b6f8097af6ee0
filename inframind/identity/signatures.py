"""Which wallet signed a text: by its key (EIP-191), or by its contract (EIP-1271)."""

from __future__ import annotations

import re
from typing import Final

import coincurve
import sha3
import structlog
from django.conf import settings

from inframind.chain.client import CallReverted, ChainUnavailable, chain_at
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem

SIGNATURE_BYTES: Final = 65
# Contracts choose their own form; a multi-signature of 60 owners fits.
CONTRACT_SIGNATURE_BYTES: Final = 4_096
_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2})*)")
_MAGIC: Final = bytes.fromhex("1626ba7e")  # isValidSignature(bytes32,bytes), and its yes
log = structlog.get_logger(__name__)


def signer_of(text: str, signature: str) -> str:
    """The checksummed address whose key made this EIP-191 signature (0x and 130 hex digits).

    Of the two signatures that a key can make of one, only that with the low s is taken (EIP-2).
    Raises ``ValueError`` on anything that is no such signature.
    """
    octets = octets_of(signature)
    if len(octets) != SIGNATURE_BYTES:
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(octets)}")
    r, s = int.from_bytes(octets[:32], "big"), int.from_bytes(octets[32:64], "big")
    parity = octets[64] - 27 if octets[64] >= 27 else octets[64]
    if parity not in (0, 1):
        raise ValueError(f"the last byte of a signature is 27 or 28, not {octets[64]}")
    if not 0 < r < _ORDER or not 0 < s < _ORDER:
        raise ValueError("this is no signature: its numbers are out of range")
    if s > _ORDER // 2:
        raise ValueError("this is the mirrored form of a signature (high s), which is refused")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            octets[:64] + bytes([parity]), digest_of(text), hasher=None
        )
    except ValueError:
        raise ValueError("this is no signature: no key made it") from None
    point = key.format(compressed=False)[1:]
    return checksum_address("0x" + sha3.keccak_256(point).hexdigest()[-40:])


def is_signed_by(address: str, text: str, signature: str) -> bool:
    """Whether the wallet at this checksummed address signed the text: its key, or, where a chain is
    configured and a contract stands at the address, the contract.

    Raises ``ValueError`` on what is no signature at all, and a 503 ``Problem`` when the chain has
    to be asked and does not answer.
    """
    octets = octets_of(signature)
    if len(octets) > CONTRACT_SIGNATURE_BYTES:
        raise ValueError(f"a signature has at most {CONTRACT_SIGNATURE_BYTES} bytes")
    problem: ValueError | None = None
    try:
        if signer_of(text, signature) == address:
            return True
    except ValueError as error:
        problem = error
    if settings.ETH_RPC_URL and _contract_agrees(address, digest_of(text), octets):
        return True
    if problem is not None:
        raise problem
    return False


def digest_of(text: str) -> bytes:
    """The 32 bytes that a wallet signs for a text (EIP-191, version E)."""
    octets = text.encode()
    prefix = b"\x19Ethereum Signed Message:\n" + str(len(octets)).encode()
    return bytes(sha3.keccak_256(prefix + octets).digest())


def octets_of(signature: str) -> bytes:
    """The bytes of a hexadecimal signature. Raises ``ValueError``."""
    found = _HEX.fullmatch(signature)
    if found is None:
        raise ValueError("a signature is written as 0x and hexadecimal digits")
    return bytes.fromhex(found[1])


def _contract_agrees(address: str, digest: bytes, signature: bytes) -> bool:
    padded = signature + bytes(-len(signature) % 32)
    data = (
        _MAGIC
        + digest
        + (64).to_bytes(32, "big")  # where the bytes begin
        + len(signature).to_bytes(32, "big")
        + padded
    )
    try:
        chain = chain_at(settings.ETH_RPC_URL, settings.CHAIN_ID)
        # A call of an address without code succeeds with an empty answer.
        return bool(chain.code_at(address)) and chain.call(address, data) == _MAGIC + bytes(28)
    except CallReverted:
        return False
    except ChainUnavailable as error:
        log.warning("chain not asked", reason=str(error))
        raise Problem(
            "chain-unavailable",
            "The key of this address did not sign, and the chain that would know whether it is a "
            "contract wallet does not answer.",
            status=503,
            remedy="If this is a contract wallet, try again in a minute. If it is not, sign with "
            "the account of this address.",
            retry_safe=True,
            retry_after_seconds=60,
        ) from None
