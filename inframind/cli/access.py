"""``infra model access``: who may see and call a model of yours."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from inframind.cli import access_requests, grouping, listing, options, refusal
from inframind.cli.client import Server, model_path
from inframind.cli.terminal import err, moment, out_json, plain
from inframind.lib.addresses import checksum_address

access_app = grouping.group("access")
MANAGE: Final = "manage access to a model"
ENTRIES_PER_REQUEST: Final = 1000
_MAX_IMPORT_BYTES: Final = 16 * 1024 * 1024

Who = Annotated[
    list[str],
    typer.Argument(
        metavar="WHO...",
        help="Wallet addresses, and @names of your groups.",
        show_default=False,
    ),
]
ExpiresIn = Annotated[
    str,
    typer.Option(
        "--expires-in",
        metavar="DURATION",
        help="Until then only, like 24h or 30d; without it, without end.",
        show_default=False,
    ),
]
Note = Annotated[
    str,
    typer.Option("--note", metavar="TEXT", help="What you will know it by.", show_default=False),
]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Kept in the history.", show_default=False)
]


@access_app.callback()
def access(context: typer.Context) -> None:
    """Say who may see and call a model of yours, and answer who asks.

    A removal is in force within a second, everywhere.

    \b
    Examples:
      infra model access show agent-vault
      infra model access set agent-vault --private
      infra model access allow agent-vault 0x3C44…93BC @customers --expires-in 30d
      infra model access requests agent-vault
    """
    grouping.show_help(context)


@access_app.command("show")
def show(
    name: options.ModelName, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Show the policy of a model and its allow list.

    \b
    Examples:
      infra model access show agent-vault
      infra model access show agent-vault --json
    """
    with Server() as server:
        server.require_token(MANAGE)
        document = server.get(model_path(name, rest="/access"))
    _show(document, json_output=json_output)


@access_app.command("set")
def set_policy(
    name: options.ModelName,
    public: Annotated[
        bool | None,
        typer.Option("--public/--private", help="Whether it stands in lists.", show_default=False),
    ] = None,
    auth: Annotated[
        bool | None,
        typer.Option("--auth/--no-auth", help="Whether a call needs a token.", show_default=False),
    ] = None,
    restricted: Annotated[
        bool | None,
        typer.Option(
            "--restricted/--open",
            help="Whether only the allow list calls it.",
            show_default=False,
        ),
    ] = None,
    reason: Reason = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Change the policy of a model. What is not said stays.

    A private model is restricted, and a restricted one needs a token.

    \b
    Examples:
      infra model access set agent-vault --private
      infra model access set agent-vault --public --restricted --reason "Listed, for customers only"
    """
    given = {"public": public, "auth_required": auth, "restricted": restricted}
    wanted: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if not wanted:
        raise refusal.usage(
            "Nothing is to be changed.",
            "Say --public or --private, --auth or --no-auth, --restricted or --open.",
        )
    if reason:
        wanted["reason"] = reason
    with Server() as server:
        server.require_token(MANAGE)
        document = server.document("PATCH", model_path(name, rest="/access"), json=wanted)
    _show(document, json_output=json_output)


@access_app.command("allow")
def allow(
    name: options.ModelName,
    who: Who,
    expires_in: ExpiresIn = "",
    note: Note = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Let wallets and groups in, or change until when they are.

    \b
    Examples:
      infra model access allow agent-vault 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC
      infra model access allow agent-vault @customers --expires-in 30d --note "Contract of May"
    """
    entries = [entry(each, expires_in=expires_in, note=note) for each in who]
    _allow(name, entries, json_output=json_output)


@access_app.command("remove")
def remove(
    name: options.ModelName,
    who: Who,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Take wallets and groups off the allow list. It is in force within a second.

    \b
    Examples:
      infra model access remove agent-vault 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC @customers
    """
    entries = [entry(each) for each in who]
    said = [each.get("address") or f"@{each['group']}" for each in entries]
    with Server() as server:
        server.require_token(MANAGE)
        for each in said:
            server.send("DELETE", model_path(name, rest=f"/access/entries/{each}"))
    if json_output:
        out_json({"model": name, "removed": said})
    else:
        err(f"Removed: {', '.join(said)}.")


@access_app.command("import")
def import_entries(
    name: options.ModelName,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A file, or - for stdin.", show_default=False),
    ],
    expires_in: ExpiresIn = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Let in everybody whom a file names; who is in already stays.

    One a line, or CSV: a wallet's address or a group's @name, then perhaps a duration and a note.
    Empty lines and what follows a # count for nothing. A line that cannot be read stops it all
    before anything is sent.

    \b
    Examples:
      infra model access import agent-vault customers.csv
      cut -d, -f2 crm.csv | infra model access import agent-vault - --expires-in 30d
    """
    if file == "-" and no_input and sys.stdin.isatty():
        raise refusal.usage("- would ask you to type, and --no-input forbids it.")
    entries = read_entries(_text_of(file), expires_in=expires_in)
    if not entries:
        raise refusal.usage(f"{file} names nobody.", "Write one address or @group a line.")
    _allow(name, entries, json_output=json_output)


@access_app.command("history")
def history(
    name: options.ModelName, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Show what was changed, when and by whom, the newest first.

    Piped, a change is a line of tab-separated time, what, who, until, by whom and note.

    \b
    Examples:
      infra model access history agent-vault
    """
    with Server() as server:
        server.require_token(MANAGE)
        changes = server.get(model_path(name, rest="/access/history"))["history"]
    if json_output:
        out_json(changes)
        return
    listing.show_columns(
        ("TIME", "WHAT", "WHO", "UNTIL", "BY", "NOTE"), [_change_cells(each) for each in changes]
    )


access_requests.add_to(access_app)


def entry(who: str, *, expires_in: str = "", note: str = "") -> dict[str, Any]:
    """An entry of an allow list as the API takes it. Raises Refusal (exit 2)."""
    made: dict[str, Any] = {}
    if who.startswith("@"):
        made["group"] = who[1:]
    else:
        made["address"] = address(who)
    if expires_in:
        options.duration(expires_in, "--expires-in")
        made["expires_in"] = expires_in
    if note:
        made["note"] = note
    return made


def address(text: str) -> str:
    """A checksummed address. Raises Refusal (exit 2)."""
    try:
        return checksum_address(text)
    except ValueError as error:
        raise refusal.usage(str(error)) from None


def read_entries(text: str, *, expires_in: str = "") -> list[dict[str, Any]]:
    """The entries of a file, each wallet and group once, the last line wins.

    Raises Refusal (exit 2) with the number of the first line that cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            cells = [cell.strip() for cell in next(csv.reader([line.partition("#")[0]]), [])]
        except csv.Error as error:
            raise refusal.usage(
                f"Line {number}: {error}.", "Mend the file. Nothing was sent."
            ) from None
        if not any(cells):
            continue
        who, until, note = (*cells, "", "")[:3]
        try:
            made = entry(who, expires_in=until or expires_in, note=note)
        except refusal.Refusal as error:
            # A first line of a CSV that names no wallet at all is its heading.
            if number == 1 and len(cells) > 1 and not who.startswith(("0x", "@")):
                continue
            raise refusal.usage(
                f"Line {number}: {error.document['detail']}",
                "Mend the file. Nothing was sent.",
            ) from None
        found[made.get("address") or f"@{made['group']}"] = made
    return list(found.values())


def _text_of(file: str) -> str:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(_MAX_IMPORT_BYTES + 1)
        else:
            with Path(file).expanduser().open("rb") as stream:
                data = stream.read(_MAX_IMPORT_BYTES + 1)
        if len(data) > _MAX_IMPORT_BYTES:
            raise refusal.usage(f"{file} has more than {_MAX_IMPORT_BYTES} bytes.", "Split it.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise refusal.usage(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise refusal.usage(f"{file} is not UTF-8 text.") from error


def _allow(name: str, entries: list[dict[str, Any]], *, json_output: bool) -> None:
    totals = {"added": 0, "changed": 0, "unchanged": 0}
    with Server() as server:
        server.require_token(MANAGE)
        for start in range(0, len(entries), ENTRIES_PER_REQUEST):
            answer = server.document(
                "POST",
                model_path(name, rest="/access/entries"),
                json={"entries": entries[start : start + ENTRIES_PER_REQUEST]},
            )
            for key in totals:
                totals[key] += int(answer[key])
    if json_output:
        out_json({"model": name} | totals)
    else:
        listing.show_rows([(key.capitalize(), str(number)) for key, number in totals.items()])


def _show(document: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        out_json(document)
        return
    requests = document["open_requests"]
    listing.show_rows(
        [
            ("Policy", plain(document["words"])),
            ("Public", _yes(document["public"])),
            ("Token", _yes(document["auth_required"])),
            ("Restricted", _yes(document["restricted"])),
            ("Asking", f"{requests}: infra model access requests" if requests else ""),
        ]
    )
    for notice in document["notices"]:
        err(plain(notice))
    entries = document["entries"]
    if entries:
        listing.show_columns(
            ("WHO", "UNTIL", "SINCE", "NOTE"), [entry_cells(each) for each in entries]
        )
    elif document["restricted"]:
        err("Nobody but you is let in: infra model access allow")


def entry_cells(document: dict[str, Any]) -> tuple[str, ...]:
    """An entry or a group's member in a listing."""
    until = moment(document.get("expires_at")) or "without end"
    return (
        plain(document.get("who") or document["address"]),
        f"{until} (over)" if document.get("expired") else until,
        moment(document["created_at"]),
        plain(document.get("note") or ""),
    )


def _change_cells(document: dict[str, Any]) -> tuple[str, ...]:
    group = document.get("group")
    return (
        moment(document["at"]),
        plain(f"{document['what']} @{group}" if group else document["what"]),
        plain(document["who"]),
        moment(document.get("expires_at")),
        plain(document.get("by") or ""),
        plain(document.get("note") or ""),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
