"""``infra token``: scoped tokens, for programs and for people who need no more than that."""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from inframind.cli import completion, grouping, listing, narrowing, options, refusal
from inframind.cli.client import Server
from inframind.cli.terminal import err, moment, out, out_json, plain

token_app = grouping.group("token")
_TOKENS: Final = "/api/v1/tokens"
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_NAME_MAX_CHARACTERS: Final = 60


class Action(enum.StrEnum):
    """What a scoped token may do."""

    INVOKE = "invoke"
    PUBLISH = "publish"
    MANAGE = "manage"
    READ_USAGE = "read:usage"


Actions = Annotated[
    list[Action] | None,
    typer.Option(
        "--action",
        metavar="ACTION",
        help="One of invoke, publish, manage, read:usage; may be repeated.",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="For this model only; may be repeated.",
        show_default=False,
        autocompletion=completion.model_names,
    ),
]
SpendLimit = Annotated[
    str,
    typer.Option(
        "--spend-limit",
        metavar="AMOUNT",
        help="The most that its calls may cost in all, like 5IFM.",
        show_default=False,
    ),
]
Calls = Annotated[
    int | None,
    typer.Option("--calls", metavar="N", min=1, help="The most calls in all.", show_default=False),
]
IpRanges = Annotated[
    list[str] | None,
    typer.Option(
        "--ip-range",
        metavar="RANGE",
        help="Good from there only, like 10.0.0.0/8; may be repeated.",
        show_default=False,
    ),
]
ExpiresIn = Annotated[
    str,
    typer.Option(
        "--expires-in", metavar="DURATION", help="Like 90s, 15m, 24h or 30d.", show_default=False
    ),
]
TokenId = Annotated[
    str, typer.Argument(metavar="ID", help="As `infra token list` shows it.", show_default=False)
]


@token_app.callback()
def token(context: typer.Context) -> None:
    """Make, list, narrow and end tokens.

    A token is shown once, alone on stdout; INFRA_TOKEN takes it.

    \b
    Examples:
      export INFRA_TOKEN=$(infra token generate --model agent-vault --expires-in 24h)
      infra token list
      infra token narrow --calls 100 --expires-in 1h
    """
    grouping.show_help(context)


@token_app.command("generate")
def generate(
    model: Models = None,
    owned: Annotated[
        bool, typer.Option("--owned", help="For all models that you own, now and later.")
    ] = False,
    any_model: Annotated[
        bool, typer.Option("--any-model", help="For every model that you may use.")
    ] = False,
    expires_in: ExpiresIn = "",
    action: Actions = None,
    spend_limit: SpendLimit = "",
    calls: Calls = None,
    ip_range: IpRanges = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="TEXT", help="What you will know it by.", show_default=False
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Make a token that can do no more than it must.

    The token alone goes to stdout, and it is shown this once; what it may do goes to stderr. It
    calls models unless --action says otherwise.

    \b
    Examples:
      infra token generate --model agent-vault --expires-in 24h
      export INFRA_TOKEN=$(infra token generate --model ocr-v1 --expires-in 1h --spend-limit 5IFM)
      infra token generate --owned --action publish --action manage --expires-in 30d --name ci
    """
    models = list(dict.fromkeys(model or []))
    if (bool(models), owned, any_model).count(True) != 1:
        raise refusal.usage(
            "A token is for named models, for yours, or for any: exactly one of the three.",
            "Say --model NAME (may be repeated), --owned or --any-model.",
        )
    if not expires_in:
        raise refusal.usage("A token has an end.", "Say when: --expires-in 24h")
    options.duration(expires_in, "--expires-in")
    scope = "named" if models else "owned" if owned else "any"
    words = ", ".join(models) or {"owned": "my models", "any": "any model"}[scope]
    wanted: dict[str, Any] = {
        "name": name or words[:_NAME_MAX_CHARACTERS],
        "actions": [each.value for each in action or [Action.INVOKE]],
        "model_scope": scope,
        "models": models,
        "expires_in": expires_in,
        "ip_ranges": list(ip_range or []),
    }
    if spend_limit:
        wanted["spend_limit"] = options.amount(spend_limit, "--spend-limit")
    if calls is not None:
        wanted["calls_limit"] = calls
    with Server() as server:
        server.require_token("make a token")
        document = server.document("POST", _TOKENS, json=wanted)
    _show_once(document, json_output=json_output)


@token_app.command("list")
def list_tokens(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """List your tokens and logins, the newest first. The tokens themselves are stored nowhere.

    Piped, a token is a line of tab-separated id, state, kind, name, actions, models, expiry and
    last use.

    \b
    Examples:
      infra token list
      infra token list --json
    """
    with Server() as server:
        server.require_token("list your tokens")
        tokens = server.get(_TOKENS)["tokens"]
    if json_output:
        out_json(tokens)
        return
    if not tokens:
        err("You have no tokens. Make one: infra token generate --model NAME --expires-in 24h")
        return
    head = ("ID", "STATE", "KIND", "NAME", "ACTIONS", "MODELS", "EXPIRES", "LAST USED")
    listing.show_columns(head, [_cells(each) for each in tokens])


@token_app.command("show")
def show(
    token_id: TokenId, json_output: options.Json = False, no_input: options.NoInput = False
) -> None:
    """Show what one of your tokens may do and what of its limits is used.

    \b
    Examples:
      infra token show 0198c0de-0000-7000-8000-000000000000
    """
    path = _path(token_id)
    with Server() as server:
        server.require_token("see your tokens")
        document = server.get(path)
    if json_output:
        out_json(document)
    else:
        listing.show_rows(_rows(document))


@token_app.command("revoke")
def revoke(
    which: Annotated[
        str,
        typer.Argument(
            metavar="ID|-",
            help="As `infra token list` shows it, or - to read a token from stdin.",
            show_default=False,
        ),
    ],
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """End a token, and every token that was narrowed from it, at once.

    With -, a token on stdin ends: whoever holds one may end it, and a narrowed one ends alone.

    \b
    Examples:
      infra token revoke 0198c0de-0000-7000-8000-000000000000
      echo "$LEAKED" | infra token revoke -
    """
    if which == "-":
        text = narrowing.token_from_stdin(no_input=no_input)
        narrowing.decoded(text)
        with Server() as server:
            server.send("POST", f"{_TOKENS}/revoke", json={"token": text})
        _say_revoked({"revoked": True}, json_output=json_output)
        return
    path = _path(which)
    with Server() as server:
        server.require_token("end a token")
        server.send("DELETE", path)
    _say_revoked({"id": which, "revoked": True}, json_output=json_output)


@token_app.command("rotate")
def rotate(
    token_id: TokenId,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="DURATION", help="How long the old one stays good beside it."
        ),
    ] = "1h",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Replace a token: same scope, same limits and what is used of them, a fresh lifetime.

    The new token alone goes to stdout, and it is shown this once.

    \b
    Examples:
      infra token rotate 0198c0de-0000-7000-8000-000000000000 --overlap 15m
    """
    options.duration(overlap, "--overlap")
    path = _path(token_id)
    with Server() as server:
        server.require_token("rotate a token")
        document = server.document("POST", f"{path}/rotate", json={"overlap": overlap})
    _show_once(document, json_output=json_output)


@token_app.command("narrow")
def narrow(
    source: narrowing.Source = "",
    model: Models = None,
    action: Actions = None,
    expires_in: ExpiresIn = "",
    spend_limit: SpendLimit = "",
    calls: Calls = None,
    ip_range: IpRanges = None,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Make a weaker token from the one you hold, without the server.

    Takes INFRA_TOKEN, or a token on stdin with -. The result can never do more than its parent, and
    ends with it; a call with it counts on both. At most five narrowings stand on one token.

    \b
    Examples:
      infra token narrow --model ocr-v1 --calls 100 --expires-in 1h
      echo "$TOKEN" | infra token narrow - --spend-limit 1IFM
    """
    narrowing.narrow(
        narrowing.token_of(source, no_input=no_input),
        models=list(model or []),
        actions=[each.value for each in action or []],
        expires_in=expires_in,
        spend_limit=spend_limit,
        calls=calls,
        ip_ranges=list(ip_range or []),
        json_output=json_output,
    )


@token_app.command("inspect")
def inspect(
    source: narrowing.Source = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Read a token without the server: its id, its narrowings, whether it was copied whole.

    Takes INFRA_TOKEN, or a token on stdin with -. Whether it is still good only the server knows:
    see `infra whoami`.

    \b
    Examples:
      infra token inspect
      echo "$TOKEN" | infra token inspect -
    """
    narrowing.inspect(narrowing.token_of(source, no_input=no_input), json_output=json_output)


def _path(token_id: str) -> str:
    if _UUID.fullmatch(token_id) is None:
        raise refusal.usage(
            f"{token_id!r} is not the id of a token.",
            "`infra token list` shows the ids. A token itself is read from stdin only: "
            "infra token revoke -",
        )
    return f"{_TOKENS}/{token_id.lower()}"


def _show_once(document: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        out_json(document)
        return
    for label, value in _rows(document):
        if value:
            err(f"{label.ljust(11)} {value}")
    err("It is shown this once, and stored nowhere.")
    # Last, so that on a terminal the token stands below everything that explains it.
    sys.stderr.flush()
    out(plain(document["token"]))


def _say_revoked(document: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        out_json(document)
    else:
        err("The token has ended, and so has everything narrowed from it.")


def scope_words(document: dict[str, Any]) -> str:
    """For which models a token is, in words."""
    models: Sequence[str] = document.get("models") or []
    if models:
        return ", ".join(map(plain, models))
    return {"owned": "all that you own", "any": "any"}.get(document["model_scope"], "")


def _cells(document: dict[str, Any]) -> tuple[str, ...]:
    return (
        plain(document["id"]),
        plain(document["state"]),
        plain(document["kind"]),
        plain(document["name"]),
        ",".join(map(plain, document["actions"])),
        scope_words(document),
        moment(document["expires_at"]),
        moment(document["last_used_at"]) or "never",
    )


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    limits = document.get("limits") or {}
    spend, calls = limits.get("spend"), limits.get("calls")
    return [
        ("Id", plain(document["id"])),
        ("Name", plain(document["name"])),
        ("State", plain(document["state"])),
        ("May", ", ".join(map(plain, document["actions"]))),
        ("Models", scope_words(document)),
        ("From", ", ".join(map(plain, document.get("ip_ranges") or []))),
        (
            "Spend",
            f"{plain(spend['used']['text'])} of {plain(spend['limit']['text'])}" if spend else "",
        ),
        ("Calls", f"{calls['used']} of {calls['limit']}" if calls else ""),
        ("Expires", moment(document["expires_at"])),
        ("Revoked", moment(document.get("revoked_at"))),
        ("Last used", moment(document.get("last_used_at"))),
        ("Replaces", plain(document.get("rotated_from") or "")),
        ("Narrowings", str(document.get("narrowings") or "")),
    ]
