"""Wallet addresses with the EIP-55 checksum."""

import re
from typing import Final

_ADDRESS: Final = re.compile(r"0[xX](?P<digits>[0-9a-fA-F]{40})", re.ASCII)


def checksum_address(text: str) -> str:
    """Returns the EIP-55 form of an address written in lower, upper or checksummed mixed case.

    Raises ValueError for another length or alphabet, and for mixed case whose checksum is wrong.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text[:60]!r} is not a wallet address. An address is 0x and 40 hexadecimal digits."
        )
    digits = match["digits"]
    checksummed = _with_checksum(digits.lower())
    if digits not in (digits.lower(), digits.upper(), checksummed):
        raise ValueError(
            f"The upper and lower case letters of {text.strip()} do not fit its checksum: a digit "
            "may be mistyped. Copy the address again, or write it all in lower case."
        )
    return f"0x{checksummed}"


def payee_address(text: str) -> str:
    """As ``checksum_address``, of who can be paid. Raises ValueError for the zero address too."""
    address = checksum_address(text)
    if address == f"0x{0:040x}":
        raise ValueError("The zero address is nobody's: what it earned could never be claimed.")
    return address


def _with_checksum(digits: str) -> str:
    # The keccak extension is absent where only the command line client is installed.
    import sha3

    nibbles = sha3.keccak_256(digits.encode()).hexdigest()
    return "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, nibbles, strict=False)
    )
