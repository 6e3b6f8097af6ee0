"""``infra model deprecate``: a version goes on answering, and says what comes after it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from inframind.cli import listing, options, refusal
from inframind.cli.client import Server, model_path
from inframind.cli.terminal import moment, out_json, plain


def deprecate(
    argument: options.ModelArgument = "",
    name: options.NameOption = "",
    version: options.VersionOption = "",
    successor: Annotated[
        str,
        typer.Option(
            "--successor",
            metavar="[NAME@]VERSION",
            help="What callers should use instead.",
            show_default=False,
        ),
    ] = "",
    sunset: Annotated[
        str,
        typer.Option(
            "--sunset",
            metavar="TIME",
            help="When it ends: 2027-06-30, RFC 3339, or a duration like 90d.",
            show_default=False,
        ),
    ] = "",
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Told to whoever looks.", show_default=False),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Mark a version of yours as deprecated, the current one when none is named.

    It goes on answering until its sunset; every answer says so, and names the successor.

    \b
    Examples:
      infra model deprecate --name summarizer-v1
      infra model deprecate summarizer-v1@1.0.0 --successor 1.1.0 --sunset 90d
    """
    name, number = options.model_and_version(argument, name, version)
    wanted: dict[str, Any] = {}
    if successor:
        wanted["successor"] = _successor(successor)
    if sunset:
        wanted["sunset_at"] = sunset_at(sunset)
    if reason:
        wanted["reason"] = reason
    with Server() as server:
        server.require_token("deprecate a version")
        number = number or str(server.get(model_path(name))["version"])
        document = server.document("POST", model_path(name, number, "/deprecate"), json=wanted)
    if json_output:
        out_json(document)
        return
    listing.show_rows(
        [
            ("Model", listing.reference(document)),
            ("State", listing.state(document)),
            ("Successor", plain(document.get("successor") or "")),
            ("Sunset", moment(document.get("sunset_at"))),
        ]
    )


def sunset_at(text: str) -> str:
    """A day, an RFC 3339 time or a duration from now, as RFC 3339. Raises Refusal (exit 2)."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        lifetime = options.duration(text, "--sunset (or a day, or RFC 3339)")
        try:
            moment = datetime.now(UTC) + lifetime
        except OverflowError:
            raise refusal.usage(f"--sunset: {text} from now is beyond the calendar.") from None
    # A day, or a time without a zone, is meant in UTC, as the server shows all times.
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except OverflowError:
        raise refusal.usage(f"--sunset: {text} is beyond the calendar.") from None


def _successor(text: str) -> str:
    name, at, number = text.rpartition("@")
    return name + at + options.strict_version(number)
