"""``infra rewards verify``: a root rebuilt from the published dump, trusting nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inframind.cli import chainview, checks, dumps, keystore, listing, logins, protocol, refusal
from inframind.cli.checks import Check
from inframind.cli.client import Server
from inframind.cli.refusal import Refusal
from inframind.cli.terminal import out, out_json, styled
from inframind.lib.amounts import format_ifm
from inframind.lib.merkle import NO_ROOT
from inframind.lib.rewards import Dump, Line, flaws

_RULES = (
    (("tree",), "Every leaf is the hash of its value, and every node that of its children"),
    (("total",), "The values add up to the total"),
    (("lines", "rounding"), "Every line is its share of the fees, rounded down once"),
    (("revenue",), "The fees that are shared out are the epoch's revenue"),
    (
        ("previous", "vanished", "fell", "standing"),
        "Every value is that of the epoch before plus its lines: nothing vanished, fell or came "
        "from nowhere",
    ),
)


def verify(server: Server, number: int | None, *, json_output: bool) -> None:
    """Checks an epoch and tells; raises Refusal (exit 1) where something is wrong."""
    document = dumps.epoch(server, number)
    epoch = int(document["number"])
    dump = dumps.tree(server, epoch, str(document.get("tree_cid")))
    previous = None
    if dump.previous is not None:
        previous = dumps.tree(server, epoch - 1, dump.previous)
    found = [*_published(dump, previous, epoch), _as_said(dump, document)]
    found.append(_on_chain(server, dump, quiet=json_output))
    account = _own_address(server)
    _show(dump, account, found, json_output=json_output)
    if checks.failed(found):
        raise refusal.failed(
            "rewards-unsound",
            f"The rewards of epoch {epoch} are not what they should be.",
            "Tell the guardian of the contract at once: during its challenge time a root can be "
            "revoked. What was claimable before stays so.",
            retry_safe=False,
        )


def _published(dump: Dump, previous: Dump | None, epoch: int) -> Iterator[Check]:
    words = f"The tree of epoch {epoch} is the one that its CID names"
    if previous is not None:
        words += f", and so is that of epoch {previous.epoch}"
    wrong = [] if dump.epoch == epoch else [f"It is of epoch {dump.epoch}."]
    if dump.previous is None and epoch > 1:
        wrong.append("It names no epoch before it.")
    yield checks.unless(words, wrong)
    wrongs = list(flaws(dump, previous))
    for rules, words in _RULES:
        yield checks.unless(words, (flaw.detail for flaw in wrongs if flaw.rule in rules))


def _as_said(dump: Dump, document: dict[str, Any]) -> Check:
    """What the server says of the epoch elsewhere is what it published."""
    said = {
        "root": document.get("root"),
        "total": (document.get("total") or {}).get("base_units"),
        "revenue": (document.get("revenue") or {}).get("base_units"),
        "receipts_root": document.get("receipts_root"),
        "receipts_cid": document.get("receipts_cid"),
    }
    found = {
        "root": None if dump.root == NO_ROOT else "0x" + dump.root.hex(),
        "total": str(dump.total),
        "revenue": str(dump.revenue),
        "receipts_root": "0x" + dump.receipts_root.hex(),
        "receipts_cid": dump.receipts_cid,
    }
    return checks.unless(
        "Root, total and revenue are those that the server says",
        (
            f"{name} is {found[name]}, and the server says {said[name]}."
            for name in said
            if said[name] != found[name]
        ),
    )


def _on_chain(server: Server, dump: Dump, *, quiet: bool) -> Check:
    words = "The contract has this root and this total"
    url = chainview.given()
    if not url:
        why = f"Not asked: {chainview.RPC_VARIABLE} names no RPC."
        return Check(words, None, (why,))
    if dump.root == NO_ROOT:
        return Check(words, None, ("There is nothing to propose: the tree has no leaves.",))
    known = protocol.for_money(server, quiet=quiet)
    there = chainview.proposal(
        url, chain_id=known.chain_id, settlement=known.settlement, epoch=dump.epoch
    )
    if there.root == NO_ROOT:
        return Check(words, None, ("It has no root for this epoch, or it was revoked.",))
    wrong = []
    if there.root != dump.root:
        wrong.append(f"It has root 0x{there.root.hex()}, and not 0x{dump.root.hex()}.")
    if there.total != dump.total:
        wrong.append(f"It has a total of {there.total}, and not {dump.total}.")
    return checks.unless(words, wrong)


def _own_address(server: Server) -> str:
    """Whose lines to show: the login's, else the wallet's here, else nobody's."""
    login = logins.of(server.settings.url)
    if login is not None:
        return login.address
    try:
        return keystore.current().address
    except Refusal:
        return ""


def _show(dump: Dump, account: str, found: list[Check], *, json_output: bool) -> None:
    mine = dump.lines_of(account)
    sound = not checks.failed(found)
    treasury = dump.revenue - dump.shared
    if json_output:
        out_json(
            {
                "epoch": dump.epoch,
                "sound": sound,
                "root": "0x" + dump.root.hex(),
                "leaves": len(dump.leaves),
                "total": str(dump.total),
                "revenue": str(dump.revenue),
                "shared": str(dump.shared),
                "treasury": str(treasury),
                "checks": checks.documents(found),
                "account": account or None,
                "lines": [_line_document(line) for line in mine],
            }
        )
        return
    checks.show(found)
    out("")
    listing.show_rows(
        [
            ("Epoch", str(dump.epoch)),
            ("Root", f"0x{dump.root.hex()} (rebuilt here)" if sound else "0x" + dump.root.hex()),
            ("Leaves", str(len(dump.leaves))),
            ("Total", format_ifm(dump.total)),
            ("Revenue", f"{format_ifm(dump.revenue)}, {format_ifm(treasury)} to the treasury"),
        ]
    )
    if mine:
        out("")
        out(styled(f"Your lines ({account})", "bold", stdout=True))
        listing.show_columns(
            ("STREAM", "SHARE", "CALLS", "OF", "AMOUNT"), [_line_cells(line) for line in mine]
        )


def _line_cells(line: Line) -> tuple[str, ...]:
    return (
        "0x" + line.stream.hex(),
        line.share,
        str(line.calls),
        format_ifm(line.gross),
        format_ifm(line.amount),
    )


def _line_document(line: Line) -> dict[str, Any]:
    return {
        "stream": "0x" + line.stream.hex(),
        "share": line.share,
        "parameters": line.parameters,
        "calls": line.calls,
        "gross": str(line.gross),
        "amount": str(line.amount),
    }
