"""What the commands that move money have in common: options, amounts, and a long breath."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from inframind.cli import listing, refusal
from inframind.cli.client import Server
from inframind.cli.terminal import out_json, plain
from inframind.lib.amounts import amount_document, format_ifm, parse_ifm

DEFAULT_TIMEOUT_SECONDS: Final = 180.0
BALANCE_PATH: Final = "/api/v1/account/balance"

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Like 2.5IFM.", show_default=False)]
# `2.5 IFM` without quotes comes as two words.
Unit = Annotated[str, typer.Argument(metavar="", hidden=True, show_default=False)]
Relay = Annotated[
    bool,
    typer.Option("--relay", help="The server sends it and pays the gas; your wallet needs no ETH."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it is in the books, or not.")
]
TimeoutSeconds = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for the chain."),
]


def amount_of(text: str, unit: str = "") -> int:
    """Base units, more than nothing. Raises Refusal (exit 2) with the accepted forms."""
    if unit and unit.upper() != "IFM":
        raise refusal.usage(f"{unit!r} is no unit of an amount.", "Write it like 2.5IFM.")
    try:
        base_units = parse_ifm(text)
    except ValueError as error:
        raise refusal.usage(str(error)) from error
    if base_units == 0:
        raise refusal.usage("An amount is more than nothing.", "Write it like 2.5IFM.")
    if base_units >= 1 << 256:
        raise refusal.usage("There is not that much IFM.", "Write it like 2.5IFM.")
    return base_units


def base_units(amount: Any) -> int:
    """The exact number of a document's amount; 0 where there is none."""
    return int(amount["base_units"]) if amount else 0


def text(amount: Any) -> str:
    """A document's amount for a person; empty where there is none."""
    return plain(amount["text"]) if amount else ""


def deadline(timeout_seconds: float) -> float:
    """A moment of ``time.monotonic``."""
    return time.monotonic() + timeout_seconds


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, and how: ``deadline`` is a moment of ``time.monotonic``."""

    base_units: int
    deadline: float
    yes: bool
    no_input: bool
    json_output: bool

    @property
    def words(self) -> str:
        return format_ifm(self.base_units)


def show_moved(server: Server, asked: Asked, label: str, *, transaction: str, state: str) -> None:
    """The result of a deposit or a withdrawal: what moved, by which transaction, what is there."""
    document = server.get(BALANCE_PATH)
    if asked.json_output:
        out_json(
            {
                "amount": amount_document(asked.base_units),
                "transaction": transaction,
                "state": state,
                "balance": document["balance"],
                "available": document["available"],
            }
        )
        return
    listing.show_rows(
        [
            (label, f"{asked.words} ({plain(state)})"),
            ("Transaction", plain(transaction)),
            ("Balance", text(document["balance"])),
            ("Available", text(document["available"])),
        ]
    )
