"""``infra balance``: what is there, what is set aside, and what moved last."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from inframind.cli import listing, money, options
from inframind.cli.client import Server
from inframind.cli.terminal import moment, out, out_json, plain, styled

_LIMIT_PATH: Final = "/api/v1/account/limit"
NO_LIMIT: Final = "none"


def balance(
    per_day: Annotated[
        str,
        typer.Option(
            "--per-day",
            metavar="AMOUNT|none",
            help="Set the most that all your calls of a day (UTC) may cost, like 5IFM.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show your balance, what of it is set aside, and what moved last.

    Piped, the rows are tab-separated: label and value; the last entries follow as time, amount,
    reason, subject.

    \b
    Examples:
      infra balance
      infra balance --per-day 5IFM
      infra balance --per-day none
    """
    limit = _limit(per_day)
    with Server() as server:
        server.require_token("see your balance")
        if per_day:
            server.send("PUT", _LIMIT_PATH, json={"per_day": limit})
        document = server.get(money.BALANCE_PATH)
    if json_output:
        out_json(document)
        return
    listing.show_rows(_rows(document))
    entries = document.get("entries") or []
    if entries:
        out("")
        listing.show_columns(("WHEN", "AMOUNT", "WHAT", ""), [_entry(each) for each in entries])
    elif money.base_units(document["balance"]) == 0:
        out(styled("Top up with: infra deposit 2.5IFM", "dim", stdout=True))


def _limit(text: str) -> str | None:
    if text.strip().lower() in ("", NO_LIMIT):
        return None
    return options.amount(text, "--per-day")


def _rows(document: dict[str, Any]) -> listing.Rows:
    limit = document.get("day_limit")
    used = money.text(document.get("day_used"))
    return [
        ("Wallet", plain(document["wallet"])),
        ("Balance", money.text(document["balance"])),
        ("Available", money.text(document["available"])),
        ("Under way", _some(document.get("under_way"), "reserved by calls that are under way")),
        ("Held", _some(document.get("held"), "for withdrawals and the like")),
        ("This epoch", _some(document.get("charged_this_epoch"), "spent on calls")),
        ("A day", f"{used} of {money.text(limit)} used today (UTC)" if limit else "no limit"),
    ]


def _some(amount: Any, words: str) -> str:
    return f"{money.text(amount)} {words}" if money.base_units(amount) else ""


def _entry(entry: dict[str, Any]) -> tuple[str, ...]:
    amount = money.text(entry["amount"])
    sign = "" if amount.startswith("-") else "+"
    return (
        moment(entry["at"]),
        f"{sign}{amount}",
        plain(entry["reason"]),
        plain(entry.get("subject") or ""),
    )
