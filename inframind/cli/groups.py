"""``infra group``: wallets that you let in together, on as many models as you like."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from inframind.cli import access, grouping, listing, options
from inframind.cli.client import Server
from inframind.cli.terminal import err, out_json, plain

group_app = grouping.group("group")
_GROUPS: Final = "/api/v1/groups"
_ACTION: Final = "manage your groups"

GroupName = Annotated[
    str, typer.Argument(metavar="GROUP", help="The group's name.", show_default=False)
]
Addresses = Annotated[
    list[str], typer.Argument(metavar="ADDRESS...", help="Wallets.", show_default=False)
]


@group_app.callback()
def group(context: typer.Context) -> None:
    """Keep groups of wallets; a model lets one in as @name.

    \b
    Examples:
      infra group create customers
      infra group add customers 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --expires-in 30d
      infra model access allow agent-vault @customers
    """
    grouping.show_help(context)


@group_app.command("list")
def list_groups(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """List your groups, with their members and how many models let them in.

    Piped, a group is a line of tab-separated name, members and models.

    \b
    Examples:
      infra group list
    """
    with Server() as server:
        server.require_token(_ACTION)
        groups = server.get(_GROUPS)["groups"]
    if json_output:
        out_json(groups)
        return
    if not groups:
        err("You have no groups. Make one: infra group create customers")
        return
    listing.show_columns(
        ("GROUP", "MEMBERS", "MODELS"),
        [(plain(each["name"]), str(each["members"]), str(each["lists"])) for each in groups],
    )


@group_app.command("show")
def show(
    name: GroupName, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Show the members of a group.

    Piped, a member is a line of tab-separated address, until, since and note.

    \b
    Examples:
      infra group show customers
    """
    with Server() as server:
        server.require_token(_ACTION)
        document = server.get(_path(name))
    if json_output:
        out_json(document)
        return
    members: list[dict[str, Any]] = document["members"]
    if document["models"]:
        err(f"Let in by: {', '.join(map(plain, document['models']))}")
    if not members:
        err(f"Nobody is in {plain(name)}: infra group add {plain(name)} 0x…")
        return
    listing.show_columns(
        ("WALLET", "UNTIL", "SINCE", "NOTE"), [access.entry_cells(each) for each in members]
    )


@group_app.command("create")
def create(
    name: GroupName, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Make a group.

    \b
    Examples:
      infra group create customers
    """
    with Server() as server:
        server.require_token(_ACTION)
        document = server.document("POST", _GROUPS, json={"name": name})
    if json_output:
        out_json(document)
    else:
        listing.show_rows([("Group", plain(document["name"]))])


@group_app.command("delete")
def delete(
    name: GroupName, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Remove a group. Whoever was let in by it alone is out within a second.

    \b
    Examples:
      infra group delete customers
    """
    with Server() as server:
        server.require_token(_ACTION)
        server.send("DELETE", _path(name))
    _say({"group": name, "deleted": True}, f"Removed {plain(name)}.", json_output=json_output)


@group_app.command("add")
def add(
    name: GroupName,
    addresses: Addresses,
    expires_in: access.ExpiresIn = "",
    note: access.Note = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Add wallets to a group, or change until when they are in it.

    \b
    Examples:
      infra group add customers 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --expires-in 30d
    """
    members = [
        access.entry(access.address(each), expires_in=expires_in, note=note) for each in addresses
    ]
    with Server() as server:
        server.require_token(_ACTION)
        answer = server.document("POST", f"{_path(name)}/members", json={"members": members})
    if json_output:
        out_json(answer)
    else:
        listing.show_rows(
            [(key.capitalize(), str(answer[key])) for key in ("added", "changed", "unchanged")]
        )


@group_app.command("remove")
def remove(
    name: GroupName,
    addresses: Addresses,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Take wallets out of a group. It is in force within a second.

    \b
    Examples:
      infra group remove customers 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC
    """
    said = [access.address(each) for each in addresses]
    with Server() as server:
        server.require_token(_ACTION)
        for each in said:
            server.send("DELETE", f"{_path(name)}/members/{each}")
    _say({"group": name, "removed": said}, f"Removed: {', '.join(said)}.", json_output=json_output)


def _path(name: str) -> str:
    return f"{_GROUPS}/{quote(name.removeprefix('@'), safe='')}"


def _say(document: dict[str, Any], words: str, *, json_output: bool) -> None:
    if json_output:
        out_json(document)
    else:
        err(words)
