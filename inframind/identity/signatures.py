"""Which wallet signed a text."""

from __future__ import annotations

import sys

SIGNATURE_BYTES = 65


def signer_of(text: str, signature: str) -> str:
    """The checksummed address whose key made this EIP-191 signature (0x and 130 hex digits).

    Raises ``ValueError`` on anything that is no such signature.
    """
    octets = bytes.fromhex(signature.removeprefix("0x"))
    if len(octets) != SIGNATURE_BYTES:
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(octets)}")
    # Imported on first use: it takes half a second, and a library below it lifts Python's recursion
    # limit for the whole process, which is put back here.
    limit = sys.getrecursionlimit()
    from eth_account import Account
    from eth_account.messages import encode_defunct
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    sys.setrecursionlimit(limit)
    try:
        return str(Account.recover_message(encode_defunct(text=text), signature=octets))
    except (BadSignature, ValidationError, ValueError) as error:
        raise ValueError(f"this is no signature: {error}") from None
