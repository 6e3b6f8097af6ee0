"""``infra receipt``: what came of a call, and the proof of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from inframind.cli import grouping, listing, options, refusal
from inframind.cli.client import Server
from inframind.cli.terminal import moment, out_json, plain

receipt_app = grouping.group("receipt")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


@receipt_app.callback()
def receipt(context: typer.Context) -> None:
    """Show and verify the receipt of a call.

    \b
    Examples:
      infra receipt show 0198c0de-0000-7000-8000-000000000000
      infra receipt verify 0198c0de-0000-7000-8000-000000000000
    """
    grouping.show_help(context)


@receipt_app.command("show")
def show(
    receipt_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="As `infra call` tells it.", show_default=False),
    ],
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show what came of a call: model, node, fee, times, and what hides its input and output.

    With --json it is the document that `infra receipt verify` takes as a file.

    \b
    Examples:
      infra receipt show 0198c0de-0000-7000-8000-000000000000
      infra receipt show 0198c0de-0000-7000-8000-000000000000 --json
    """
    path = _path(receipt_id)
    with Server() as server:
        document = server.get(path)
    if json_output:
        out_json(document)
    else:
        listing.show_rows(rows(document))


@receipt_app.command("verify")
def verify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE",
            help="A receipt's id, a file that `infra receipt show --json` made, or - for stdin.",
            show_default=False,
        ),
    ],
    input_file: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="FILE",
            help="The JSON document that the call was made with.",
            show_default=False,
        ),
    ] = "",
    output_file: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FILE",
            help="The JSON document that the call answered.",
            show_default=False,
        ),
    ] = "",
    signer: Annotated[
        str,
        typer.Option(
            "--signer",
            metavar="ADDRESS",
            help="Who signs receipts, as you know it from elsewhere; without it, whom the server "
            "named the first time.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Check a receipt without trusting the server: signature, leaf, path, epoch and sum of fees.

    What you may not see (who called, the digests of input and output) is checked where the receipt
    is yours. Where the epoch is sealed, all its receipts are fetched by their CID and added up:
    this one has to be among them, and their fees have to be the epoch's revenue.

    \b
    Examples:
      infra receipt verify 0198c0de-0000-7000-8000-000000000000
      infra receipt verify receipt.json --input test.json --output answer.json
    """
    # Imported here, since it loads the curve, for which other commands need not wait.
    from inframind.cli import receiptcheck

    documents = receiptcheck.Documents.read(input_file, output_file)
    known_signer = receiptcheck.address(signer)
    with Server() as server:
        if _UUID.fullmatch(source):
            document = server.get(_path(source))
        else:
            document = receiptcheck.read(source)
        receiptcheck.verify(
            server, document, documents, signer=known_signer, json_output=json_output
        )


def rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """A receipt for a person; what is not told is left out."""
    node = plain(document.get("node") or "")
    attempts = document["attempts"]
    batch = document.get("batch") or {}
    epoch = document.get("epoch")
    state = plain(document.get("epoch_state") or "")
    return [
        ("Receipt", plain(document["id"])),
        ("Model", plain(document["model"])),
        ("Outcome", plain(document["outcome"])),
        ("Problem", plain(document.get("problem") or "")),
        ("Node", f"{node} (attempt {attempts})" if attempts > 1 else node),
        ("Fee", plain(document["fee"]["text"])),
        ("Time", _time(document)),
        ("Input", plain(document.get("input_digest") or "")),
        ("Output", plain(document.get("output_digest") or "")),
        ("Stored CID", plain(document.get("cid") or "")),
        ("Caller", plain(document.get("caller") or "")),
        ("Linked", "yes: earns no bonus, counts in no ranking" if document.get("linked") else ""),
        ("Called at", moment(document["created_at"])),
        ("Epoch", f"{epoch} ({state})" if state else plain(epoch or "")),
        ("Leaf", plain(document.get("leaf") or "")),
        ("Batch", f"{plain(batch['root'])}, {_counted(batch['count'])}" if batch else ""),
        ("Signed by", plain(batch.get("signer") or "")),
    ]


def _counted(count: Any) -> str:
    return f"{count} receipt{'' if count == 1 else 's'}"


def _time(document: dict[str, Any]) -> str:
    """In all, and on the node; a call that was refused before reached none."""
    within = f", {document['node_latency_ms']:.1f} on the node" if document.get("node") else ""
    return f"{document['latency_ms']:.1f} ms{within}"


def _path(receipt_id: str) -> str:
    if _UUID.fullmatch(receipt_id) is None:
        raise refusal.usage(
            f"{receipt_id!r} is not the id of a receipt.",
            "`infra call` tells it on stderr, as receipt …",
        )
    return f"/api/v1/receipts/{receipt_id}"
