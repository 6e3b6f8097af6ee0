"""Transactions of the wallet: the server proposes, this command checks, the wallet signs here."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from inframind.cli import keystore, progress, refusal
from inframind.cli.client import Server
from inframind.cli.money import Asked
from inframind.cli.protocol import Protocol
from inframind.cli.terminal import can_ask, err, plain, styled
from inframind.lib.addresses import checksum_address

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

_PATH: Final = "/api/v1/account/transactions"
_GWEI: Final = 10**9
_WEI_PER_ETHER: Final = 10**18
# Above what any of ours costs on any chain that they would be on, and below what would hurt.
MAX_GAS: Final = 300_000
MAX_FEE_PER_GAS_WEI: Final = 500 * _GWEI
MAX_PRIORITY_FEE_PER_GAS_WEI: Final = 100 * _GWEI
_NUMBERS: Final = ("value", "chainId", "nonce", "gas", "maxFeePerGas", "maxPriorityFeePerGas")
MAX_NONCE: Final = 2**64 - 2  # EIP-2681


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person asked for, worked out here: nothing else is ever signed."""

    to: str
    data: bytes
    words: str
    max_gas: int = MAX_GAS


@dataclass(frozen=True, slots=True)
class Checked:
    """A transaction that does exactly what was asked for; fees in wei."""

    wanted: Wanted
    chain_id: int
    nonce: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    @property
    def costs_at_most_wei(self) -> int:
        return self.gas * self.max_fee_per_gas


def checked(
    documents: Any, wanted: Sequence[Wanted], protocol: Protocol, *, url: str
) -> list[Checked]:
    """The server's transactions, one for each that is wanted, in order.

    Raises Refusal (exit 1) for anything that the person did not ask for.
    """
    if not isinstance(documents, list) or len(documents) != len(wanted):
        count = len(documents) if isinstance(documents, list) else "no list of"
        raise not_signed(url, f"it gave {count} transactions, and this takes {len(wanted)}")
    found = [
        _checked(document, each, protocol, url)
        for document, each in zip(documents, wanted, strict=True)
    ]
    for before, after in itertools.pairwise(found):
        if after.nonce != before.nonce + 1:
            raise not_signed(url, "the nonces of the transactions do not follow each other")
    return found


def _checked(document: Any, wanted: Wanted, protocol: Protocol, url: str) -> Checked:
    fields = document.get("transaction") if isinstance(document, dict) else None
    if not isinstance(fields, dict):
        raise not_signed(url, "a transaction is no JSON object")
    try:
        to = checksum_address(str(fields.get("to")))
        data = _octets(fields.get("data"))
        value, chain_id, nonce, gas, fee, tip = (_number(fields.get(key), key) for key in _NUMBERS)
    except ValueError as error:
        raise not_signed(url, f"a transaction cannot be read: {error}") from error
    if chain_id != protocol.chain_id:
        raise not_signed(url, f"it is for chain {chain_id}, and yours is {protocol.chain_id}")
    if to != wanted.to:
        raise not_signed(url, f"it goes to {to} instead of {wanted.to}")
    if value != 0:
        raise not_signed(url, f"it would send {_ether(value)} along")
    if data != wanted.data:
        raise not_signed(url, f"its call is another than to {wanted.words}")
    if not 21_000 <= gas <= wanted.max_gas:
        raise not_signed(url, f"it asks for {gas} gas, and at most {wanted.max_gas} is sane")
    if not tip <= fee <= MAX_FEE_PER_GAS_WEI or tip > MAX_PRIORITY_FEE_PER_GAS_WEI:
        raise not_signed(
            url, f"its fees of {fee / _GWEI:g} and {tip / _GWEI:g} gwei a unit of gas are not sane"
        )
    if nonce > MAX_NONCE:
        raise not_signed(url, f"its nonce is {nonce}")
    return Checked(wanted, chain_id, nonce, gas, fee, tip)


def wallet_of(server: Server) -> str:
    """The address of the wallet here, which is the one that is signed in.

    Raises Refusal: exit 1 where the server takes the caller for another wallet, exit 4 without one.
    """
    address = keystore.current().address
    account = str(server.get("/api/v1/account").get("address"))
    if account != address:
        raise refusal.failed(
            "other-wallet",
            f"You are signed in as {plain(account)}, and the wallet here is {address}. Nothing was "
            "signed.",
            "Sign in with this wallet: infra login (and unset INFRA_TOKEN).",
            retry_safe=False,
        )
    return address


def unlocked(address: str, *, no_input: bool) -> LocalAccount:
    """The wallet, ready to sign. Raises Refusal where its key is of another address."""
    account = keystore.unlock(no_input=no_input)
    if account.address != address:
        raise refusal.failed(
            "other-wallet", f"The key is of {account.address}, and not of {address}."
        )
    return account


def tell(lines: Sequence[str], asked: Asked) -> None:
    """Shows what is about to happen, on stderr; with --json that stays a program's."""
    if not asked.json_output:
        for line in lines:
            err(line)


def confirm(lines: Sequence[str], asked: Asked) -> None:
    """Shows what will be done, and asks unless --yes was said.

    Raises Refusal (exit 2) where nobody can be asked, ``typer.Abort`` for a no.
    """
    if asked.yes:
        tell(lines, asked)
        return
    if not can_ask(asked.no_input):
        raise refusal.usage(
            "This moves money, and nobody can be asked here.", "Add --yes where that is meant."
        )
    for line in lines:
        err(line)
    typer.confirm("Go on?", err=True, abort=True)


def words(transactions: Sequence[Checked], address: str) -> list[str]:
    """What the wallet is about to sign, a line each."""
    lines = [styled(f"Your wallet {address} signs, for chain {transactions[0].chain_id}:", "bold")]
    lines += [f"  {each.wanted.words}" for each in transactions]
    most = sum(each.costs_at_most_wei for each in transactions)
    return [*lines, styled(f"  The gas costs at most {_ether(most)}.", "dim")]


def signed(account: LocalAccount, transaction: Checked) -> tuple[str, str]:
    """The raw transaction and its hash, each 0x and hexadecimal digits."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "to": transaction.wanted.to,
        "value": 0,
        "data": transaction.wanted.data,
        "gas": transaction.gas,
        "maxFeePerGas": transaction.max_fee_per_gas,
        "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas,
    }
    made = account.sign_transaction(fields)
    return "0x" + bytes(made.raw_transaction).hex(), "0x" + bytes(made.hash).hex()


def send(server: Server, address: str, transactions: Sequence[Checked], asked: Asked) -> list[str]:
    """Signs and sends one after the other, each when the one before is mined; their hashes.

    Raises Refusal for one that reverted, or that was not mined in time.
    """
    account = unlocked(address, no_input=asked.no_input)
    hashes: list[str] = []
    with progress.spinner("Sending") as say:
        for each in transactions:
            raw, hash_ = signed(account, each)
            server.document("POST", _PATH, json={"raw": raw})
            hashes.append(hash_)
            # Whoever stops waiting has to know what is on its way.
            tell([f"Sent {hash_}"], asked)
            say(f"Waiting for {hash_} to be mined")
            wait_mined(server, hash_, deadline=asked.deadline)
    return hashes


def wait_mined(server: Server, hash_: str, *, deadline: float) -> dict[str, Any]:
    """What the server says of a transaction that is mined. Raises Refusal like ``send``."""
    for _ in progress.pauses(deadline - time.monotonic()):
        document = server.get(f"{_PATH}/{hash_}")
        match document.get("state"):
            case "mined" | "confirmed":
                return document
            case "reverted" | "failed":
                raise refusal.failed(
                    "transaction-reverted",
                    f"The transaction {hash_} was mined and did nothing: the contract refused it.",
                    "Its gas is spent. See what is there now, with infra balance, and try again.",
                    transaction=hash_,
                )
    raise refusal.failed(
        "not-mined-yet",
        f"The transaction {hash_} is sent, and was not mined in the time given.",
        "It goes on without you. Do not send another: see infra balance, in a while.",
        transaction=hash_,
    )


def wait_relayed(server: Server, relay: Any, *, deadline: float) -> str:
    """Waits until what the server itself sends is mined; the hash. Raises Refusal like ``send``."""
    if not isinstance(relay, dict):
        raise refusal.failed(
            "unexpected-answer",
            f"{server.settings.url} does not say what it sends.",
            "See infra balance, in a while.",
        )
    # By its id: it may have no hash yet, and another one after its fee was raised.
    which = relay.get("id") or relay.get("hash")
    document = wait_mined(server, str(which), deadline=deadline)
    return str(document.get("hash") or relay.get("hash") or "")


def _number(value: Any, what: str) -> int:
    if isinstance(value, bool):
        raise ValueError(f"{what} is no number")
    if isinstance(value, str):
        value = int(value, 16) if value.startswith("0x") else int(value)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{what} is no whole number from 0")
    return value


def _octets(value: Any) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("its data is not hexadecimal")
    return bytes.fromhex(value[2:])


def _ether(wei: int) -> str:
    return f"{wei / _WEI_PER_ETHER:.6g} ETH"


def not_signed(url: str, why: str) -> refusal.Refusal:
    """The refusal (exit 1) of something that the person did not ask for."""
    return refusal.failed(
        "not-signed",
        f"What {url} asks your wallet to sign is not what you asked for: {plain(why)}. Nothing was "
        "signed.",
        "Do not sign it anywhere else either. Check that INFRA_URL names the server that you mean, "
        "and tell its operator.",
        retry_safe=False,
    )
