"""``infra deposit``: IFM of the wallet become prepaid balance."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import typer

from inframind.cli import money, options, progress, protocol, refusal
from inframind.cli import transactions as signing
from inframind.cli.client import Server
from inframind.cli.money import Asked
from inframind.cli.protocol import Protocol
from inframind.cli.terminal import err, styled
from inframind.lib import calldata

_PATH: Final = "/api/v1/account/deposits"
_FAUCET_PATH: Final = "/api/v1/account/faucet"
# A permit that is good for longer than this would be a blank cheque in somebody's drawer.
MAX_PERMIT_SECONDS: Final = 24 * 3600


def deposit(
    amount: money.Amount,
    unit: money.Unit = "",
    relay: money.Relay = False,
    faucet: Annotated[
        bool,
        typer.Option("--faucet", help="Get test IFM first; on a development chain only."),
    ] = False,
    wait: money.Wait = True,
    timeout_seconds: money.TimeoutSeconds = money.DEFAULT_TIMEOUT_SECONDS,
    yes: money.Yes = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Move IFM of your wallet into your balance.

    The server only proposes the transactions. They are checked here, against the contracts that it
    named the first time, and your wallet signs them here; with --relay it signs a permit instead,
    which the server sends.

    \b
    Examples:
      infra deposit 2.5IFM
      infra deposit 2.5IFM --relay
      infra deposit 10IFM --faucet --relay --yes
    """
    asked = Asked(
        money.amount_of(amount, unit), money.deadline(timeout_seconds), yes, no_input, json_output
    )
    with Server() as server:
        server.require_token("deposit")
        address = signing.wallet_of(server)
        known = protocol.for_money(server, quiet=json_output)
        if faucet:
            _ask_faucet(server, known, asked)
        plan = _permitted if relay else _transacted
        transaction = plan(server, known, address, asked)
        state = _wait_credited(server, transaction, asked) if wait else "confirming"
        money.show_moved(server, asked, "Deposited", transaction=transaction, state=state)


def _transacted(server: Server, known: Protocol, address: str, asked: Asked) -> str:
    """Signs and sends what it takes; the hash of the deposit."""
    offered = server.document("POST", _PATH, json={"amount": asked.words}).get("transactions")
    wanted = [
        signing.Wanted(
            known.ifm,
            calldata.approve(known.settlement, asked.base_units),
            f"let Settlement {known.settlement} take {asked.words} of your IFM",
        ),
        signing.Wanted(
            known.settlement,
            calldata.deposit(address, asked.base_units),
            f"deposit {asked.words} for {address} at Settlement {known.settlement}",
        ),
    ]
    # Where enough was approved before, the server leaves the approval out.
    if isinstance(offered, list) and len(offered) == 1:
        wanted = wanted[1:]
    made = signing.checked(offered, wanted, known, url=server.settings.url)
    signing.confirm(signing.words(made, address), asked)
    return signing.send(server, address, made, asked)[-1]


def _permitted(server: Server, known: Protocol, address: str, asked: Asked) -> str:
    """Signs a permit, which the server sends; the hash of the deposit."""
    offered = server.get(f"{_PATH}/permit", {"amount": asked.words})
    permit, until = _permit(offered, known, address, asked, url=server.settings.url)
    lines = [
        styled(f"Your wallet {address} signs, for chain {known.chain_id}:", "bold"),
        f"  let Settlement {known.settlement} take {asked.words} of your IFM, for at most "
        f"{MAX_PERMIT_SECONDS // 3600} hours",
        styled("  The server deposits it for you and pays the gas.", "dim"),
    ]
    signing.confirm(lines, asked)
    account = signing.unlocked(address, no_input=asked.no_input)
    signature = account.sign_message(_signable(permit)).signature
    with progress.spinner("Waiting for the server to send it"):
        body = {
            "amount": asked.words,
            "deadline": until,
            "signature": "0x" + bytes(signature).hex(),
        }
        answer = server.document("POST", _PATH, json=body)
        return signing.wait_relayed(server, answer.get("relay"), deadline=asked.deadline)


def _permit(
    offered: dict[str, Any], known: Protocol, address: str, asked: Asked, *, url: str
) -> tuple[dict[str, Any], int]:
    """The permit that is asked for, made here, and until when it is good (unix seconds).

    Raises Refusal (exit 1) unless the server's is the same.
    """
    try:
        nonce, until = (int(offered["message"][key]) for key in ("nonce", "deadline"))
    except (KeyError, TypeError, ValueError):
        raise signing.not_signed(url, "it is no permit") from None
    if until > time.time() + MAX_PERMIT_SECONDS:
        raise signing.not_signed(url, "it would be good for too long")
    made = calldata.permit_typed_data(
        chain_id=known.chain_id,
        ifm=known.ifm,
        owner=address,
        spender=known.settlement,
        amount=asked.base_units,
        nonce=nonce,
        deadline=until,
    )
    if offered != made:
        raise signing.not_signed(
            url, f"it is another permit than for {asked.words} to {known.settlement}"
        )
    return made, until


def _signable(permit: dict[str, Any]) -> Any:
    from eth_account.messages import encode_typed_data

    message = {
        name: value if name in ("owner", "spender") else int(value)
        for name, value in permit["message"].items()
    }
    return encode_typed_data(full_message={**permit, "message": message})


def _ask_faucet(server: Server, known: Protocol, asked: Asked) -> None:
    if not known.faucet:
        raise refusal.failed(
            "no-faucet",
            f"{server.settings.url} gives no test IFM away.",
            "Leave --faucet out, and deposit IFM that is in your wallet.",
            retry_safe=False,
        )
    with progress.spinner("Waiting for test IFM"):
        answer = server.document("POST", _FAUCET_PATH)
        signing.wait_relayed(server, answer.get("relay"), deadline=asked.deadline)
    if not asked.json_output:
        err("The faucet gave your wallet test IFM: worth nothing, and good for trying out.")


def _wait_credited(server: Server, transaction: str, asked: Asked) -> str:
    with progress.spinner("Waiting for confirmations") as say:
        for _ in progress.pauses(asked.deadline - time.monotonic()):
            for found in server.get(_PATH).get("results") or []:
                if found.get("transaction") != transaction:
                    continue
                if found["state"] == "credited":
                    return str(found["state"])
                say(f"{found.get('confirmations')} of {found.get('needed')} confirmations")
    raise refusal.failed(
        "not-credited-yet",
        f"The deposit {transaction} is mined, and was not credited in the time given.",
        "It goes on without you: see infra balance, in a while.",
        transaction=transaction,
    )
