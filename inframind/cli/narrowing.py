"""Tokens without the server: read, checked, and narrowed by whoever holds one."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from inframind.cli import options, refusal, settings
from inframind.cli.listing import show_rows
from inframind.cli.terminal import err, out, out_json, plain
from inframind.lib import bearer, scopes
from inframind.lib.amounts import amount_document, parse_ifm

Source = Annotated[
    str,
    typer.Argument(
        metavar="[-]", help="- reads the token from stdin; else INFRA_TOKEN.", show_default=False
    ),
]
_MAX_STDIN_CHARACTERS: Final = 64 * 1024


def token_of(source: str, *, no_input: bool) -> str:
    """INFRA_TOKEN, or the token on stdin for ``-``. Raises Refusal (exit 2), which hides it."""
    if source == "-":
        return token_from_stdin(no_input=no_input)
    if source:
        raise refusal.usage(
            "A token is never an argument, which others could see in the list of processes.",
            "Put it in INFRA_TOKEN, or pipe it in and write - in its place.",
        )
    token = settings.environment_token()
    if not token:
        raise refusal.usage(
            "There is no token: INFRA_TOKEN is not set.",
            "export INFRA_TOKEN=<your token>, or pipe one in and write - in its place.",
        )
    return token


def token_from_stdin(*, no_input: bool) -> str:
    """The token on stdin. Raises Refusal (exit 2)."""
    if no_input and sys.stdin.isatty():
        raise refusal.usage("- would ask you to type, and --no-input forbids it.")
    token = settings.checked_token(sys.stdin.read(_MAX_STDIN_CHARACTERS), "stdin")
    if not token:
        raise refusal.usage("There is no token on stdin.", "Pipe it in.")
    return token


def decoded(token: str) -> bearer.BearerText:
    """The token taken apart, its checksum right. Raises Refusal (exit 2)."""
    try:
        return bearer.decode(token)
    except ValueError as error:
        raise refusal.usage(
            f"This is not a whole token: {error}.", "Copy it again, on one line and without quotes."
        ) from None


def narrow(
    token: str,
    *,
    models: list[str],
    actions: list[str],
    expires_in: str,
    spend_limit: str,
    calls: int | None,
    ip_ranges: list[str],
    json_output: bool,
) -> None:
    """Shows the narrowed token. Raises Refusal (exit 2) for limits that no token can have."""
    decoded(token)
    if not (models or actions or expires_in or spend_limit or calls or ip_ranges):
        raise refusal.usage(
            "Nothing is to be taken away.",
            "Say what: --model, --action, --expires-in, --spend-limit, --calls or --ip-range.",
        )
    expires_at = None
    if expires_in:
        lifetime = options.duration(expires_in, "--expires-in")
        expires_at = int(time.time() + lifetime.total_seconds())
    spend = parse_ifm(options.amount(spend_limit, "--spend-limit")) if spend_limit else None
    try:
        caveat = scopes.Caveat(
            models=frozenset(models) if models else None,
            actions=frozenset(actions) if actions else None,
            expires_at=expires_at,
            spend_limit_base_units=spend,
            calls_limit=calls,
            ip_ranges=tuple(ip_ranges) if ip_ranges else None,
        )
        narrowed = bearer.narrow(token, caveat)
    except ValueError as error:
        raise refusal.usage(f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    if json_output:
        out_json(_document(decoded(narrowed)) | {"token": narrowed})
        return
    err(f"Narrowed to: {_words(caveat)}. It ends with its parent at the latest.")
    out(narrowed)


def inspect(token: str, *, json_output: bool) -> None:
    """Shows what the token itself says. Raises Refusal (exit 2) for one that is not whole."""
    found = decoded(token)
    document = _document(found)
    if json_output:
        out_json(document)
        return
    show_rows(
        [
            ("Id", str(found.token_id)),
            ("Checksum", "right: it was copied whole"),
            ("Narrowed", _times(len(found.caveats))),
            *((f"{at}.", _words(each)) for at, each in enumerate(_caveats(found), start=1)),
            ("Known as", plain(document["narrowing_id"] or "")),
        ]
    )


def _document(found: bearer.BearerText) -> dict[str, Any]:
    narrowed = bool(found.caveats)
    return {
        "id": str(found.token_id),
        "checksum": "right",
        # What the server calls this narrowing: a digest, of which nothing can be made.
        "narrowing_id": str(bearer.narrowing_id(found.mac)) if narrowed else None,
        "narrowings": [_caveat_document(each) for each in _caveats(found)],
    }


def _caveats(found: bearer.BearerText) -> list[scopes.Caveat]:
    try:
        return [scopes.Caveat.parse(each) for each in found.caveats]
    except ValueError as error:
        raise refusal.usage(f"This token cannot be read here: {error}.") from None


def _caveat_document(caveat: scopes.Caveat) -> dict[str, Any]:
    spend = caveat.spend_limit_base_units
    document = {
        "models": sorted(caveat.models) if caveat.models is not None else None,
        "actions": sorted(caveat.actions) if caveat.actions is not None else None,
        "expires_at": _time(caveat.expires_at) if caveat.expires_at is not None else None,
        "spend_limit": amount_document(spend) if spend is not None else None,
        "calls_limit": caveat.calls_limit,
        "ip_ranges": list(caveat.ip_ranges) if caveat.ip_ranges is not None else None,
    }
    return {key: value for key, value in document.items() if value is not None}


def _words(caveat: scopes.Caveat) -> str:
    document = _caveat_document(caveat)
    words = []
    if "models" in document:
        words.append(f"models {', '.join(document['models'])}")
    if "actions" in document:
        words.append(f"actions {', '.join(document['actions'])}")
    if "spend_limit" in document:
        words.append(f"at most {document['spend_limit']['text']}")
    if "calls_limit" in document:
        words.append(f"at most {document['calls_limit']} calls")
    if "ip_ranges" in document:
        words.append(f"from {', '.join(document['ip_ranges'])}")
    if "expires_at" in document:
        words.append(f"until {document['expires_at']}")
    return "; ".join(words) or "no limit of its own"


def _times(count: int) -> str:
    return ("not narrowed", "once", "twice")[count] if count < 3 else f"{count} times"


def _time(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
