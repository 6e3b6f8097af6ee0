"""``infra rewards``: what you have earned, how it is claimed, and how anybody checks it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from inframind.cli import (
    completion,
    grouping,
    listing,
    money,
    options,
    progress,
    protocol,
    refusal,
)
from inframind.cli import transactions as signing
from inframind.cli.client import Server
from inframind.cli.money import Asked
from inframind.cli.protocol import Protocol
from inframind.cli.terminal import err, out, out_json, plain, styled
from inframind.lib import calldata
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.merkle import leaf_of
from inframind.lib.merkle import verify as is_under

rewards_app = grouping.group("rewards")
_PATH: Final = "/api/v1/rewards"
_GAS_A_CLAIM: Final = 250_000

Claims = dict[bytes, calldata.Claim]  # by stream

Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Only what this model earned.",
        show_default=False,
        autocompletion=completion.model_names,
    ),
]


@rewards_app.callback()
def rewards(context: typer.Context) -> None:
    """See, claim and verify what your models and nodes have earned.

    \b
    Examples:
      infra rewards status
      infra rewards claim --model summarizer-v1
      infra rewards verify
    """
    grouping.show_help(context)


@rewards_app.command("status")
def status(
    model: Model = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show what you have earned by each model and node, and what of it can be claimed.

    Piped, a stream is a line of tab-separated name, earned, claimed, claimable, pending.

    \b
    Examples:
      infra rewards status
      infra rewards status --model summarizer-v1 --json
    """
    with Server() as server:
        server.require_token("see your rewards")
        document = _rewards(server, model)
    if json_output:
        out_json(document)
        return
    rows = [_row(each) for each in document["results"]]
    if not rows:
        err("Nothing was earned yet, or no epoch with it is closed.")
        return
    listing.show_columns(("STREAM", "EARNED", "CLAIMED", "CLAIMABLE", "PENDING"), rows)
    if money.base_units(document.get("claimable")) and listing.on_a_terminal():
        out("")
        out(styled("Claim it with: infra rewards claim", "dim", stdout=True))


@rewards_app.command("claim")
def claim(
    model: Model = "",
    relay: money.Relay = False,
    wait: money.Wait = True,
    timeout_seconds: money.TimeoutSeconds = money.DEFAULT_TIMEOUT_SECONDS,
    yes: money.Yes = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Have what you earned paid to your wallet, on chain.

    Each proof is checked here before anything is signed. With --relay the server sends the claims
    and pays the gas; wherever they come from, the contract pays them to nobody but you.

    \b
    Examples:
      infra rewards claim
      infra rewards claim --model summarizer-v1
      infra rewards claim --relay --yes
    """
    with Server() as server:
        server.require_token("claim your rewards")
        address = signing.wallet_of(server)
        known = protocol.for_money(server, quiet=json_output)
        document = _rewards(server, model)
        due = [each for each in document["results"] if money.base_units(each["claimable"])]
        if not due:
            _nothing(document, json_output=json_output)
            return
        total = sum(money.base_units(each["claimable"]) for each in due)
        asked = Asked(total, money.deadline(timeout_seconds), yes, no_input, json_output)
        claims = _proven(server, document, due, address)
        plan = _relayed if relay else _sent
        hashes = plan(server, known, address, claims, asked)
        state = "mined"
        if wait:
            state = _wait_claimed(server, model, due, asked)
    _show_claimed(asked, due, hashes, state)


@rewards_app.command("verify")
def verify(
    epoch: Annotated[
        int | None,
        typer.Option(
            "--epoch",
            metavar="N",
            min=1,
            help="The epoch; without it, the newest one that is sealed.",
            show_default=False,
        ),
    ] = None,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Rebuild an epoch's root from what is published, and compare. Needs no sign-in.

    Checks the CIDs of the published trees, every leaf and node, every share and its rounding, the
    sums, and that nothing of the epoch before vanished or fell. The root is compared with what the
    server says, and with the contract where INFRA_RPC_URL names an RPC of your own.

    \b
    Examples:
      infra rewards verify
      infra rewards verify --epoch 12 --json
    """
    # Imported here, since it loads the curve, for which other commands need not wait.
    from inframind.cli import rewardcheck

    with Server() as server:
        rewardcheck.verify(server, epoch, json_output=json_output)


def _rewards(server: Server, model: str) -> dict[str, Any]:
    return server.get(_PATH, {"model": model} if model else None)


def _row(reward: dict[str, Any]) -> tuple[str, ...]:
    earned = money.base_units(reward["cumulative"]) + money.base_units(reward.get("pending"))
    return (
        _name(reward),
        format_ifm(earned),
        *(money.text(reward.get(key)) for key in ("claimed", "claimable", "pending")),
    )


def _name(reward: dict[str, Any]) -> str:
    return plain(reward.get("subject") or reward["stream"])


def _nothing(document: dict[str, Any], *, json_output: bool) -> None:
    """Nothing to claim is as good as claimed: no failure."""
    if json_output:
        out_json({"claimed": amount_document(0), "streams": [], "transactions": []})
        return
    pending = sum(money.base_units(each.get("pending")) for each in document["results"])
    err("There is nothing to claim.")
    if pending:
        err(f"{format_ifm(pending)} wait until the root of their epoch can be claimed.")


def _proven(
    server: Server, document: dict[str, Any], due: Sequence[dict[str, Any]], account: str
) -> Claims:
    """The claims by stream, each of which leads to the root. Raises Refusal (exit 1)."""
    claims: Claims = {}
    try:
        root = _octets(document["root"])
        for each in due:
            stream = _octets(each["stream"])
            cumulative = money.base_units(each["cumulative"])
            proof = [_octets(node) for node in each["proof"]]
            if not is_under(root, leaf_of(account, stream, cumulative), proof):
                raise ValueError(f"the proof of {_name(each)} does not lead to the root")
            claims[stream] = (account, stream, cumulative, proof)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise signing.not_signed(server.settings.url, f"its proofs are no good: {error}") from error
    return claims


def _sent(server: Server, known: Protocol, address: str, claims: Claims, asked: Asked) -> list[str]:
    """Checks what the server offers, signs it and sends it; the hashes."""
    url = server.settings.url
    offered = server.document("POST", f"{_PATH}/claims", json=_body(claims, relay=False))
    documents = offered.get("transactions")
    made = signing.checked(documents, _wanted(documents, claims, known, url), known, url=url)
    lines = [*signing.words(made, address), f"  In all, {asked.words} for {address}."]
    signing.confirm(lines, asked)
    return signing.send(server, address, made, asked)


def _relayed(
    server: Server, known: Protocol, address: str, claims: Claims, asked: Asked
) -> list[str]:
    lines = [
        styled(f"Claim {asked.words} for {address}:", "bold"),
        "  the server sends it and pays the gas",
    ]
    signing.confirm(lines, asked)
    with progress.spinner("Waiting for the server to send it"):
        answer = server.document("POST", f"{_PATH}/claims", json=_body(claims, relay=True))
        return [signing.wait_relayed(server, answer.get("relay"), deadline=asked.deadline)]


def _body(claims: Claims, *, relay: bool) -> dict[str, Any]:
    return {"streams": ["0x" + stream.hex() for stream in claims], "relay": relay}


def _wanted(offered: Any, claims: Claims, known: Protocol, url: str) -> list[signing.Wanted]:
    """What the transactions have to be: each claim once, however the server parts them."""
    left = dict(claims)
    wanted = []
    for document in offered if isinstance(offered, list) else ():
        try:
            call = calldata.read(bytes.fromhex(document["transaction"]["data"].removeprefix("0x")))
            parts = call.arguments["claims"]
            streams = [bytes(stream) for _, stream, *_ in parts]
            mine = [left.pop(stream) for stream in streams]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise signing.not_signed(
                url, "its claims are others than yours, or cannot be read"
            ) from None
        words = f"claim {len(mine)} of your rewards from Settlement {known.settlement}"
        most = signing.MAX_GAS + _GAS_A_CLAIM * len(mine)
        wanted.append(signing.Wanted(known.settlement, calldata.claim_many(mine), words, most))
    if left:
        raise signing.not_signed(url, f"{len(left)} of your claims are missing from it")
    return wanted


def _wait_claimed(server: Server, model: str, due: Sequence[dict[str, Any]], asked: Asked) -> str:
    wanted = {each["stream"]: money.base_units(each["cumulative"]) for each in due}
    with progress.spinner("Waiting for confirmations"):
        for _ in progress.pauses(asked.deadline - time.monotonic()):
            claimed = {
                each["stream"]: money.base_units(each["claimed"])
                for each in _rewards(server, model)["results"]
            }
            if all(claimed.get(stream, 0) >= amount for stream, amount in wanted.items()):
                return "claimed"
    raise refusal.failed(
        "not-claimed-yet",
        "The claim is mined, and was not confirmed in the time given.",
        "It goes on without you: see infra rewards status, in a while.",
    )


def _show_claimed(
    asked: Asked, due: Sequence[dict[str, Any]], hashes: Sequence[str], state: str
) -> None:
    if asked.json_output:
        out_json(
            {
                "claimed": amount_document(asked.base_units),
                "streams": [each["stream"] for each in due],
                "transactions": list(hashes),
                "state": state,
            }
        )
        return
    listing.show_rows(
        [
            ("Claimed", f"{asked.words} ({state})"),
            ("From", ", ".join(map(_name, due))),
            ("Transaction", ", ".join(map(plain, hashes))),
        ]
    )


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
