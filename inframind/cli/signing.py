"""Sign-in messages (EIP-4361): made or read here, checked against the server, signed here."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from inframind.cli import refusal
from inframind.cli.terminal import err, plain, styled
from inframind.lib import siwe

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def message_for(challenge: dict[str, Any], address: str, url: str) -> siwe.Message:
    """The message for what ``POST auth/nonce`` answered.

    Raises Refusal (exit 1) for fields that make no message, or one for another server.
    """
    try:
        message = siwe.Message(
            domain=str(challenge["domain"]),
            address=address,
            uri=str(challenge["uri"]),
            version=str(challenge["version"]),
            chain_id=int(challenge["chain_id"]),
            nonce=str(challenge["nonce"]),
            statement=challenge.get("statement"),
            issued_at=str(challenge["issued_at"]),
            expiration_time=challenge.get("expires_at"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise refusal.failed(
            "unexpected-answer",
            f"{url} does not ask for a sign-in that can be signed: {error}.",
            "Check that INFRA_URL names an InfraMind server.",
        ) from error
    require_for(message, url)
    return message


def read(source: str, url: str, address: str) -> siwe.Message:
    """The message in a file, or on stdin for ``-``, for this server and this wallet.

    Raises Refusal: exit 2 for what is no message, exit 1 for one that must not be signed.
    """
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).expanduser().read_bytes()
    except OSError as error:
        raise refusal.usage(f"--sign: {source} cannot be read: {error.strerror}.") from error
    try:
        # Pasting and `echo` put a line end behind it, which is not part of a message.
        message = siwe.parse(data.decode("utf-8").replace("\r\n", "\n").strip("\n"))
    except ValueError as error:
        raise refusal.usage(
            f"This is not a sign-in message: {error}.",
            "Copy the whole text of the sign-in page, from its first line to its last.",
        ) from error
    require_for(message, url)
    if message.address != address:
        raise _not_signed(
            f"The message is for the wallet {message.address}, and yours is {address}.",
            "Give the page your wallet's address: infra wallet show",
        )
    ends = message.expiration_time
    if ends is not None and siwe.moment(ends) <= datetime.now(UTC):
        raise _not_signed(f"The message expired at {ends}.", "Load the sign-in page again.")
    return message


def require_for(message: siwe.Message, url: str) -> None:
    """Raises Refusal (exit 1) for a message that would sign in elsewhere than at this server."""
    scheme, domain = message.scheme or urlsplit(url).scheme, message.domain
    here = _origin(url)
    for there in (f"{scheme}://{domain}", message.uri):
        if _origin(there) != here:
            raise _not_signed(
                f"The message would sign you in at {plain(there)}, and your server is {url}.",
                "If that is the right server, set INFRA_URL to it. If you did not expect this, "
                "someone may be trying to sign in as you.",
            )


def show(text: str) -> None:
    """Shows what is about to be signed, on stderr."""
    err(styled("Your wallet signs this text. It costs nothing and moves nothing:", "bold"))
    for line in text.split("\n"):
        err(f"  {plain(line)}".rstrip())


def sign(account: LocalAccount, text: str) -> str:
    """The EIP-191 signature of a text, 0x and 130 hexadecimal digits."""
    from eth_account.messages import encode_defunct

    signed = account.sign_message(encode_defunct(text=text))
    return "0x" + bytes(signed.signature).hex()


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    scheme, place = parts.scheme.lower(), parts.netloc.lower()
    return f"{scheme}://{place.removesuffix(_DEFAULT_PORTS.get(scheme, ':'))}"


def _not_signed(detail: str, remedy: str) -> refusal.Refusal:
    return refusal.failed("not-signed", f"{detail} Nothing was signed.", remedy)
