"""``infra withdraw``: unspent balance goes back to the wallet."""

from __future__ import annotations

import time
from typing import Any, Final

from inframind.cli import money, options, progress, protocol, refusal
from inframind.cli import transactions as signing
from inframind.cli.client import Server
from inframind.cli.money import Asked
from inframind.cli.protocol import Protocol
from inframind.cli.terminal import styled
from inframind.lib import calldata

_PATH: Final = "/api/v1/account/withdrawals"


def withdraw(
    amount: money.Amount,
    unit: money.Unit = "",
    relay: money.Relay = False,
    wait: money.Wait = True,
    timeout_seconds: money.TimeoutSeconds = money.DEFAULT_TIMEOUT_SECONDS,
    yes: money.Yes = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Move unspent balance back into your wallet.

    The server sets the amount aside and signs a voucher for it. The transaction that cashes it is
    checked and signed here, or sent by the server with --relay. A voucher that nobody cashes ends,
    and its amount is available again.

    \b
    Examples:
      infra withdraw 1IFM
      infra withdraw 1IFM --relay --yes
    """
    asked = Asked(
        money.amount_of(amount, unit), money.deadline(timeout_seconds), yes, no_input, json_output
    )
    with Server() as server:
        server.require_token("withdraw")
        address = signing.wallet_of(server)
        known = protocol.for_money(server, quiet=json_output)
        # Asked first: the voucher sets the amount aside, even where nobody cashes it.
        how = "the server sends it and pays the gas" if relay else "your wallet sends it"
        heading = styled(f"{asked.words} of your balance goes to your wallet {address}:", "bold")
        signing.confirm([heading, f"  {how}"], asked)
        voucher = _begun(server, asked, relay=relay)
        plan = _relayed if voucher.get("relay") or relay else _cashed
        transaction = plan(server, known, address, voucher, asked)
        state = _wait_paid(server, voucher, asked) if wait else "open"
        money.show_moved(server, asked, "Withdrawn", transaction=transaction, state=state)


def _begun(server: Server, asked: Asked, *, relay: bool) -> dict[str, Any]:
    """A fresh withdrawal, or the open one of this amount: it was begun before, and goes on.

    Raises Refusal where less is available, or where the open one is of another amount.
    """
    results = server.get(_PATH).get("results") or []
    open_one: dict[str, Any] | None = next(
        (each for each in results if each.get("state") == "open"), None
    )
    if open_one is None:
        _require_enough(server, asked)
        return server.document("POST", _PATH, json={"amount": asked.words, "relay": relay})
    if money.base_units(open_one["amount"]) != asked.base_units:
        words = money.text(open_one["amount"])
        raise refusal.failed(
            "withdrawal-open",
            f"A withdrawal of {words} is open, and there is one at a time.",
            f"Finish it: infra withdraw {words.replace(' ', '')}",
            retry_safe=False,
        )
    return open_one


def _require_enough(server: Server, asked: Asked) -> None:
    available = server.get(money.BALANCE_PATH)["available"]
    if money.base_units(available) < asked.base_units:
        raise refusal.failed(
            "too-little-available",
            f"You want to withdraw {asked.words}, and {money.text(available)} are available.",
            "What is held or under way is told by: infra balance",
            retry_safe=False,
        )


def _relayed(
    server: Server, known: Protocol, address: str, voucher: dict[str, Any], asked: Asked
) -> str:
    if voucher.get("relay") is None:
        raise refusal.failed(
            "not-relayed",
            f"{server.settings.url} does not send it. The voucher stands, and your wallet can.",
            f"Send it yourself: infra withdraw {asked.words.replace(' ', '')}",
            retry_safe=False,
        )
    with progress.spinner("Waiting for the server to send it"):
        return signing.wait_relayed(server, voucher["relay"], deadline=asked.deadline)


def _cashed(
    server: Server, known: Protocol, address: str, voucher: dict[str, Any], asked: Asked
) -> str:
    """Checks voucher and transaction, signs it and sends it; its hash."""
    url = server.settings.url
    try:
        cumulative = int(voucher["cumulative"])
        until = int(voucher["deadline"])
        signature = bytes.fromhex(str(voucher["signature"]).removeprefix("0x"))
        given = money.base_units(voucher["amount"])
        if max(cumulative, until) > calldata.UINT256_MAX or until < 0:
            raise ValueError("no uint256")
    except (KeyError, TypeError, ValueError):
        raise signing.not_signed(url, "its voucher cannot be read") from None
    if given != asked.base_units or cumulative < asked.base_units:
        raise signing.not_signed(url, f"its voucher is not for {asked.words}")
    _require_good(known, address, cumulative, until, signature, url)
    wanted = signing.Wanted(
        known.settlement,
        calldata.withdraw(address, cumulative, until, signature),
        f"withdraw {asked.words} to {address} from Settlement {known.settlement}",
    )
    made = signing.checked([voucher.get("transaction")], [wanted], known, url=url)
    signing.tell(signing.words(made, address), asked)
    return signing.send(server, address, made, asked)[-1]


def _require_good(
    known: Protocol, address: str, cumulative: int, until: int, signature: bytes, url: str
) -> None:
    """A voucher that the contract would refuse costs gas for nothing."""
    # Imported on first use, like all that loads the curve: other commands need not wait for it.
    from inframind.lib import secp256k1

    digest = calldata.typed_data_digest(
        calldata.withdrawal_typed_data(
            chain_id=known.chain_id,
            settlement=known.settlement,
            account=address,
            cumulative=cumulative,
            deadline=until,
        )
    )
    try:
        signer = secp256k1.recover(digest, signature)
    except ValueError as error:
        raise signing.not_signed(url, f"its voucher is not signed: {error}") from error
    if signer != known.voucher_signer:
        raise signing.not_signed(
            url, f"its voucher is signed by {signer}, and vouchers are by {known.voucher_signer}"
        )


def _wait_paid(server: Server, voucher: dict[str, Any], asked: Asked) -> str:
    which = voucher.get("id")
    with progress.spinner("Waiting for confirmations"):
        for _ in progress.pauses(asked.deadline - time.monotonic()):
            for found in server.get(_PATH).get("results") or []:
                if found.get("id") == which and found["state"] != "open":
                    return str(found["state"])
    raise refusal.failed(
        "not-paid-yet",
        "The withdrawal is sent, and was not confirmed in the time given.",
        "It goes on without you: see infra balance, in a while.",
        withdrawal=which,
    )
