"""Wallets that sign in tests: real keys, and the page's own flow."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from html import unescape
from typing import Any, Self

from django.test import Client
from eth_account import Account
from eth_account.messages import encode_defunct

# The second account of the well-known development mnemonic.
KNOWN_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class Signer:
    """A wallet with its key."""

    key: str

    @classmethod
    def fresh(cls) -> Self:
        return cls("0x" + secrets.token_hex(32))

    @property
    def address(self) -> str:
        return str(Account.from_key(self.key).address)

    def sign(self, text: str) -> str:
        signed = Account.sign_message(encode_defunct(text=text), self.key)
        return str(signed.signature.to_0x_hex())

    def sign_mirrored(self, text: str) -> str:
        """The other signature of the same key over the same text: s is n - s, the parity turned."""
        octets = bytes.fromhex(self.sign(text)[2:])
        s = ORDER - int.from_bytes(octets[32:64], "big")
        return "0x" + (octets[:32] + s.to_bytes(32, "big") + bytes([55 - octets[64]])).hex()


def line() -> str:
    """The address of a line that nobody has asked from, so that no test meets another's limit."""
    return "10." + ".".join(str(secrets.randbelow(254) + 1) for _ in range(3))


def browser(**headers: str) -> Client:
    """A browser on a line of its own."""
    return Client(REMOTE_ADDR=line(), headers=headers or None)


def message_on(page: Any) -> str:
    """The message that a sign-in page shows."""
    found = re.search(r'id="message-text"[^>]*>(.*?)</pre>', page.content.decode(), re.DOTALL)
    assert found is not None, page.content.decode()
    return unescape(found[1])


def ask(client: Client, address: str, **query: str) -> str:
    """The message that the page gives this browser for the address."""
    page = client.get("/signin", {"address": address, **query})
    assert page.status_code == 200
    return message_on(page)


def answer(client: Client, message: str, signature: str, **fields: str) -> Any:
    """Sends the form as a browser does: with CR LF."""
    address = message.splitlines()[1] if len(message.splitlines()) > 1 else ""
    form = {"message": message.replace("\n", "\r\n"), "signature": signature, "address": address}
    return client.post("/signin", {**form, **fields})


def signed_in(signer: Signer, **headers: str) -> Client:
    """A browser that went the whole way."""
    client = browser(**headers)
    message = ask(client, signer.address)
    assert answer(client, message, signer.sign(message)).status_code == 302
    return client
