"""``infra model access requests|approve|refuse|ask``: asking to be let in, and the answers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from inframind.cli import listing, options, refusal
from inframind.cli.client import Server, model_path
from inframind.cli.terminal import err, moment, out_json, plain

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_MANAGE: Final = "answer access requests"

RequestId = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="As `infra model access requests NAME` shows it.", show_default=False
    ),
]
Answer = Annotated[
    str,
    typer.Option("--answer", metavar="TEXT", help="What the asker is told.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Adds the four commands to their group."""
    app.command("requests")(requests)
    app.command("approve")(approve)
    app.command("refuse")(refuse)
    app.command("ask")(ask)


def requests(
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]",
            help="A model of yours; without it, what you asked for.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """List who asks to be let in; without a name, what you asked for and what came of it.

    Piped, a request is a line of tab-separated id, state, wallet, time, message and answer; of your
    own, model, state, time, message and answer.

    \b
    Examples:
      infra model access requests agent-vault
      infra model access requests
    """
    path = model_path(name, rest="/access/requests") if name else "/api/v1/account/access-requests"
    with Server() as server:
        server.require_token(_MANAGE if name else "see what you asked for")
        found = server.get(path)["requests"]
    if json_output:
        out_json(found)
        return
    if not found:
        err("Nobody asks." if name else "You have asked for nothing.")
        return
    first = ("id", "state", "wallet") if name else ("model", "state")
    keys = (*first, "created_at", "message", "answer")
    head = [key.removesuffix("_at").upper() for key in keys]
    listing.show_columns(head, [_cells(each, keys) for each in found])


def approve(
    name: options.ModelName,
    request_id: RequestId,
    expires_in: Annotated[
        str,
        typer.Option(
            "--expires-in",
            metavar="DURATION",
            help="Let in until then only, like 30d.",
            show_default=False,
        ),
    ] = "",
    answer: Answer = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Let the asker in: the wallet joins the allow list.

    \b
    Examples:
      infra model access approve agent-vault 0198c0de-0000-7000-8000-000000000000 --expires-in 30d
    """
    decision: dict[str, Any] = {"state": "approved"}
    if expires_in:
        options.duration(expires_in, "--expires-in")
        decision["expires_in"] = expires_in
    if answer:
        decision["answer"] = answer
    _decide(name, request_id, decision, json_output=json_output)


def refuse(
    name: options.ModelName,
    request_id: RequestId,
    answer: Answer = "",
    tell: Annotated[
        bool,
        typer.Option("--tell", help="Tell the asker, which confirms that there is such a model."),
    ] = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Do not let the asker in. Unless you --tell, nothing changes for the asker.

    \b
    Examples:
      infra model access refuse agent-vault 0198c0de-0000-7000-8000-000000000000
      infra model access refuse agent-vault 0198c0de-0000-7000-8000-000000000000 --tell --answer No.
    """
    decision: dict[str, Any] = {"state": "refused", "tell": tell}
    if answer:
        decision["answer"] = answer
    _decide(name, request_id, decision, json_output=json_output)


def ask(
    name: options.ModelName,
    message: Annotated[
        str,
        typer.Option(
            "--message", metavar="TEXT", help="Who you are and what for.", show_default=False
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Ask the owner of a model to be let in. Needs `infra login`.

    The answer is the same whether there is such a model or not.

    \b
    Examples:
      infra model access ask agent-vault --message "We met in May: Example Ltd."
    """
    with Server() as server:
        server.require_token("ask to be let in")
        answer = server.document(
            "POST", model_path(name, rest="/access/requests"), json={"message": message}
        )
    if json_output:
        out_json(answer)
    else:
        err("Asked. If there is such a model, its owner sees it. See: infra model access requests")


def _decide(name: str, request_id: str, decision: dict[str, Any], *, json_output: bool) -> None:
    if _UUID.fullmatch(request_id) is None:
        raise refusal.usage(
            f"{request_id!r} is not the id of a request.",
            f"The ids: infra model access requests {name}",
        )
    with Server() as server:
        server.require_token(_MANAGE)
        document = server.document(
            "PATCH", model_path(name, rest=f"/access/requests/{request_id}"), json=decision
        )
    if json_output:
        out_json(document)
    else:
        listing.show_rows(
            [
                ("Request", plain(document["id"])),
                ("Wallet", plain(document["wallet"])),
                ("State", plain(document["state"])),
                ("Answer", plain(document.get("answer") or "")),
            ]
        )


def _cells(document: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(
        moment(document[key])
        if key.endswith("_at")
        else " ".join(plain(document[key] or "").split())
        for key in keys
    )
