"""``infra login``, ``logout``, ``whoami`` and ``usage``: you, as the server sees you."""

from __future__ import annotations

import csv
import sys
from typing import Annotated, Any

import typer

from inframind.cli import keystore, listing, logins, options, refusal, settings, signing
from inframind.cli.client import Server
from inframind.cli.refusal import EXIT_NOT_ALLOWED, Refusal
from inframind.cli.terminal import err, moment, out, out_json, plain, styled
from inframind.cli.tokens import scope_words


def login(
    sign: Annotated[
        str,
        typer.Option(
            "--sign",
            metavar="FILE",
            help="Only sign the sign-in page's message, from a file or stdin (-), and print the "
            "signature.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Sign in with your wallet: it signs a text, which is free.

    The text names the server, and is refused if it names another one than INFRA_URL. What comes
    back is a token for this server alone, kept in a file that only you can read.

    \b
    Examples:
      infra login
      infra login --no-input      with INFRA_PRIVATE_KEY, or INFRA_PASSWORD_FILE for the keystore
      infra login --sign -        for the sign-in page without a browser wallet: paste its message
    """
    wallet = keystore.current()
    url, source = settings.server_url()
    if sign:
        message = signing.read(sign, url, wallet.address)
        signature = _signed(str(message), wallet, json_output=json_output, no_input=no_input)
        if json_output:
            out_json({"address": wallet.address, "message": str(message), "signature": signature})
        else:
            out(signature)
        return
    # Without the old token: an expired or revoked one must not keep anybody out.
    stranger = settings.Settings(url, source, "")
    settings.warn_in_the_open(stranger)
    with Server(stranger) as server:
        challenge = server.document("POST", "/api/v1/auth/nonce", json={})
        message = signing.message_for(challenge, wallet.address, url)
        signature = _signed(str(message), wallet, json_output=json_output, no_input=no_input)
        answer = server.document(
            "POST", "/api/v1/auth/login", json={"message": str(message), "signature": signature}
        )
    made = logins.Login(*(str(answer[k]) for k in ("address", "token", "token_id", "expires_at")))
    logins.keep(url, made)
    if json_output:
        out_json(_public(url, made) | {"message": str(message)})
    else:
        _show_login(url, made)
    if settings.environment_token():
        err(
            f"{styled('Warning:', 'yellow')} INFRA_TOKEN is set and wins over this login: "
            "unset INFRA_TOKEN"
        )


def logout(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """End the login at this server, here and there.

    \b
    Examples:
      infra logout
    """
    url, source = settings.server_url()
    known = logins.of(url)
    if known is None:
        err(f"You are not signed in at {url}.")
    else:
        if not known.expired:
            _end(settings.Settings(url, source, known.token, "login"))
        logins.forget(url)
    if json_output:
        out_json({"url": url, "signed_out": known is not None})
    elif known is not None:
        err(f"Signed out at {url}.")
    if settings.environment_token():
        err("INFRA_TOKEN is still set: unset INFRA_TOKEN, or end it with `infra token revoke`.")


def whoami(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """Show which wallet you are there, and what your token may do.

    \b
    Examples:
      infra whoami
      infra whoami --json
    """
    with Server() as server:
        server.require_token("be known to the server")
        account = server.get("/api/v1/account")
        where, by = server.settings.url, server.settings.token_source
    if json_output:
        out_json(account | {"url": where, "token_source": by})
        return
    credential = account["credential"]
    listing.show_rows(
        [
            ("Wallet", plain(account["address"])),
            ("Name", plain(account.get("display_name") or "")),
            ("Roles", ", ".join(map(plain, account["roles"]))),
            ("Server", where),
            ("By", "the login" if by == "login" else "the token in INFRA_TOKEN"),
            ("May", ", ".join(map(plain, credential["actions"]))),
            ("Models", scope_words(credential)),
            ("Expires", moment(credential["expires_at"])),
        ]
    )


def usage(
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How far back.")] = 30,
    csv_output: Annotated[
        bool, typer.Option("--csv", help="Comma-separated values, for a spreadsheet.")
    ] = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show what you have called and what it cost, by model, by token and by day.

    Piped, a line is tab-separated: what it counts, calls, served, fees.

    \b
    Examples:
      infra usage
      infra usage --days 7 --json
      infra usage --days 366 --csv > usage.csv
    """
    if csv_output and json_output:
        raise refusal.usage("Two forms are asked for.", "Use one of --csv and --json.")
    with Server() as server:
        server.require_token("see your usage")
        document = server.get("/api/v1/account/usage", {"days": days})
    if json_output:
        out_json(document)
    elif csv_output:
        _write_csv(document)
    else:
        listing.show_columns(("", "CALLS", "SERVED", "FEES"), _usage_rows(document, days))


def _usage_rows(document: dict[str, Any], days: int) -> list[tuple[str, ...]]:
    rows = [_usage_row(f"last {days} days", document)]
    rows += [_usage_row(plain(each["model"]), each) for each in document["by_model"]]
    rows += [_usage_row(_token_words(each), each) for each in document["by_token"]]
    rows += [_usage_row(plain(each["day"]), each) for each in document["by_day"] if each["calls"]]
    return rows


def _usage_row(label: str, document: dict[str, Any]) -> tuple[str, ...]:
    return label, str(document["calls"]), str(document["served"]), plain(document["fees"]["text"])


def _token_words(used: dict[str, Any]) -> str:
    name = plain(used.get("name") or "")
    if used.get("token") is None:
        return name or "signed in on a page"
    return f"{name} ({plain(used['token'])})" if name else plain(used["token"])


def _write_csv(document: dict[str, Any]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("by", "what", "calls", "served", "fee_base_units", "fee"))
    groups = (
        ("model", document["by_model"], lambda each: each["model"]),
        ("token", document["by_token"], _token_words),
        ("day", document["by_day"], lambda each: each["day"]),
    )
    for by, rows, name_of in groups:
        for each in rows:
            fees = each["fees"]
            writer.writerow(
                (
                    by,
                    _cell(name_of(each)),
                    each["calls"],
                    each["served"],
                    _cell(fees["base_units"]),
                    _cell(fees["text"]),
                )
            )


def _cell(value: object) -> str:
    # A spreadsheet would run what begins like a formula, and a token's name can be anything.
    text = plain(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text


def _signed(text: str, wallet: keystore.Wallet, *, json_output: bool, no_input: bool) -> str:
    # With --json the result carries the message, and stderr stays a program's.
    if not json_output:
        signing.show(text)
    return signing.sign(keystore.unlock(no_input=no_input), text)


def _end(configured: settings.Settings) -> None:
    try:
        with Server(configured) as server:
            server.send("POST", "/api/v1/auth/logout")
    except Refusal as problem:
        # A token that the server no longer knows is as signed out as it can be.
        if problem.exit_code != EXIT_NOT_ALLOWED:
            raise


def _public(url: str, made: logins.Login) -> dict[str, Any]:
    return {
        "url": url,
        "address": made.address,
        "token_id": made.token_id,
        "expires_at": made.expires_at,
    }


def _show_login(url: str, made: logins.Login) -> None:
    listing.show_rows(
        [
            ("Signed in", plain(made.address)),
            ("Server", url),
            ("Until", moment(made.expires_at)),
        ]
    )
