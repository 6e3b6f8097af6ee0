"""What a server says of its chain, its contracts and its keys, pinned the first time it says it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from inframind.cli import refusal, state
from inframind.cli.client import Server
from inframind.cli.terminal import err, plain, styled
from inframind.lib.addresses import checksum_address

CHAIN_VARIABLE: Final = "INFRA_CHAIN_ID"
_UNSAFE: Final = re.compile(r"[^0-9A-Za-z.]+")
_LONGEST_NAME_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Pins:
    """What must never change behind one's back. Addresses are checksummed, or empty: not there."""

    chain_id: int
    ifm: str
    settlement: str
    gateway_signer: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """What ``GET /api/v1/protocol`` says, and what of it was pinned before.

    ``pins`` are the first ones that this server ever gave, ``said`` those of this answer.
    """

    said: Pins
    pins: Pins
    voucher_signer: str
    confirmations: int
    challenge_seconds: int
    faucet: bool

    @property
    def chain_id(self) -> int:
        return self.pins.chain_id

    @property
    def ifm(self) -> str:
        return self.pins.ifm

    @property
    def settlement(self) -> str:
        return self.pins.settlement


def of(server: Server, *, quiet: bool) -> Protocol:
    """The server's protocol; what it says for the first time is pinned, and told unless ``quiet``.

    Raises Refusal for an answer that makes no sense.
    """
    document = server.get("/api/v1/protocol")
    try:
        said = Pins(
            chain_id=int(document["chain_id"]),
            ifm=_address(document.get("ifm")),
            settlement=_address(document.get("settlement")),
            gateway_signer=_address(document.get("gateway_signer")),
        )
        return Protocol(
            said=said,
            pins=_pinned(server.settings.url, said, quiet=quiet),
            voucher_signer=_address(document.get("voucher_signer")),
            confirmations=int(document.get("confirmations") or 0),
            challenge_seconds=int(document.get("challenge_seconds") or 0),
            faucet=document.get("faucet") is True,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise refusal.failed(
            "unexpected-answer",
            f"{server.url('/api/v1/protocol')} does not tell the protocol: {error}.",
            "Check that INFRA_URL names an InfraMind server.",
        ) from error


def for_money(server: Server, *, quiet: bool) -> Protocol:
    """The protocol, where the server is on the chain and with the contracts that it always was.

    Raises Refusal: exit 1 where they changed, or where there is no chain; exit 2 where
    INFRA_CHAIN_ID names another one.
    """
    protocol = of(server, quiet=quiet)
    require_chain(protocol.said.chain_id)
    said, pins = protocol.said, protocol.pins
    for what, now, before in (
        ("chain", said.chain_id, pins.chain_id),
        ("IFM contract", said.ifm, pins.ifm),
        ("Settlement contract", said.settlement, pins.settlement),
    ):
        if now != before:
            raise refusal.failed(
                "contracts-changed",
                f"{server.settings.url} names another {what} than ever before: {now}, and it was "
                f"{before}. Nothing was signed.",
                "Ask its operator, and not over this server. Only if that is right, forget the "
                f"old one: rm {path(server.settings.url)}",
                retry_safe=False,
            )
    if not (said.ifm and said.settlement):
        raise refusal.failed(
            "no-chain",
            f"{server.settings.url} is connected to no chain: nothing can be deposited, withdrawn "
            "or claimed there.",
            "Ask its operator.",
            retry_safe=False,
        )
    return protocol


def require_chain(chain_id: int) -> None:
    """Raises Refusal (exit 2) where INFRA_CHAIN_ID is set and is another."""
    wanted = os.environ.get(CHAIN_VARIABLE, "").strip()
    if not wanted:
        return
    if not wanted.isdecimal():
        raise refusal.usage(f"{CHAIN_VARIABLE} is no chain's number: {wanted!r}.", "Like 1.")
    if int(wanted) != chain_id:
        raise refusal.usage(
            f"The server is on chain {chain_id}, and {CHAIN_VARIABLE} says {wanted}.",
            f"Name the server that you mean with INFRA_URL, or unset {CHAIN_VARIABLE}.",
        )


def gateway_signer(server: Server, protocol: Protocol) -> str:
    """Who signs receipts there, as it was pinned; shouts on stderr where the server names another.

    Raises Refusal where the server never named one.
    """
    said, pinned = protocol.said.gateway_signer, protocol.pins.gateway_signer
    if not pinned:
        raise refusal.failed(
            "no-signer", f"{server.settings.url} does not tell who signs receipts."
        )
    if said != pinned:
        err(
            f"{styled('Warning:', 'red')} {server.settings.url} NAMES ANOTHER SIGNER OF RECEIPTS "
            f"THAN EVER BEFORE: {said or 'nobody'}, and it was {pinned}. Ask its operator, and not "
            "over this server. To check a receipt against a signer that you know, use --signer; to "
            f"forget the old one: rm {path(server.settings.url)}"
        )
    return pinned


def path(url: str) -> Path:
    """The file of a server's pins, ``$XDG_STATE_HOME/infra/pinned-….json``."""
    words = _UNSAFE.sub("-", url.partition("://")[2])[:_LONGEST_NAME_CHARACTERS].strip("-.")
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return state.xdg("XDG_STATE_HOME", ".local/state") / f"pinned-{words}-{digest}.json"


def _pinned(url: str, said: Pins, *, quiet: bool) -> Pins:
    file = path(url)
    with state.locked(file):
        text = state.read_private(file)
        if text is None:
            pins = said
            if not quiet:
                err(styled(f"First time at {url}: {_words(pins)}; kept in {file}.", "dim"))
        else:
            before = _read(text, file)
            # What was not there before is new rather than changed.
            pins = Pins(
                before.chain_id,
                before.ifm or said.ifm,
                before.settlement or said.settlement,
                before.gateway_signer or said.gateway_signer,
            )
            if pins == before:
                return pins
        state.write_private(file, json.dumps({"url": url, **asdict(pins)}, indent=2) + "\n")
    return pins


def _words(pins: Pins) -> str:
    words = [f"chain {pins.chain_id}"]
    words += [f"IFM {pins.ifm}"] if pins.ifm else []
    words += [f"Settlement {pins.settlement}"] if pins.settlement else []
    words += [f"receipts signed by {pins.gateway_signer}"] if pins.gateway_signer else []
    return plain(", ".join(words))


def _read(text: str, file: Path) -> Pins:
    try:
        document = json.loads(text)
        return Pins(
            int(document["chain_id"]),
            _address(document["ifm"]),
            _address(document["settlement"]),
            _address(document["gateway_signer"]),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise refusal.usage(
            f"{file} is not what this command wrote.",
            f"It keeps which contracts the server had. Mend it, or remove it: rm {file}",
        ) from error


def _address(value: Any) -> str:
    return checksum_address(str(value)) if value else ""
