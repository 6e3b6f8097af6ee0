"""``infra receipt``: what came of a call."""

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
    """Show the receipt of a call.

    \b
    Examples:
      infra receipt show 0198c0de-0000-7000-8000-000000000000
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
    """Show what came of a call: model, node, fee, times, and digests of what went in and out.

    \b
    Examples:
      infra receipt show 0198c0de-0000-7000-8000-000000000000
      infra receipt show 0198c0de-0000-7000-8000-000000000000 --json
    """
    if _UUID.fullmatch(receipt_id) is None:
        raise refusal.usage(
            f"{receipt_id!r} is not the id of a receipt.",
            "`infra call` tells it on stderr, as receipt …",
        )
    with Server() as server:
        document = server.get(f"/api/v1/receipts/{receipt_id}")
    if json_output:
        out_json(document)
    else:
        listing.show_rows(_rows(document))


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    node = plain(document.get("node") or "")
    attempts = document["attempts"]
    return [
        ("Receipt", plain(document["id"])),
        ("Model", plain(document["model"])),
        ("Outcome", plain(document["outcome"])),
        ("Problem", plain(document.get("problem") or "")),
        ("Node", f"{node} (attempt {attempts})" if attempts > 1 else node),
        ("Fee", plain(document["fee"]["text"])),
        ("Time", f"{document['latency_ms']:.1f} ms, {document['node_latency_ms']:.1f} on the node"),
        ("Input", plain(document["input_digest"])),
        ("Output", plain(document.get("output_digest") or "")),
        ("Stored CID", plain(document.get("cid") or "")),
        ("Caller", plain(document.get("caller") or "")),
        ("Called at", moment(document["created_at"])),
    ]
