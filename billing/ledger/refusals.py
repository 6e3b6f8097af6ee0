"""What the ledger refuses, and how it says so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError

from billing.ledger.models import Account
from inframind.lib.amounts import amount_document, format_ifm
from inframind.lib.problem import Problem

FLOOR: Final = "account_above_its_floor"
TOP_UP: Final = "/account/balance"

_FAILING_ID: Final = re.compile(r"\((\d+),")


class InsufficientFunds(Problem):
    """402: an account would have less than nothing. ``account`` is its code."""

    def __init__(self, account: str, available_base_units: int) -> None:
        self.account = account
        self.available_base_units = available_base_units
        super().__init__(
            "insufficient-funds",
            f"{_spoken(account)} has {format_ifm(available_base_units)} available, and this takes "
            "more. Nothing was moved.",
            status=402,
            remedy="Move less, or top up first. What is held or under way is not available.",
            extra={"account": account, "available": amount_document(available_base_units)},
        )


class OutOfFunds(Problem):
    """402: a wallet cannot pay for one more call, or not today. Amounts are as of the refusal.

    ``under_way_base_units`` is what processes have leased and not spent: some of it may come back.
    ``day_left_base_units`` is None where there is no limit for a day.
    """

    def __init__(
        self,
        *,
        fee_base_units: int,
        balance_base_units: int,
        available_base_units: int,
        under_way_base_units: int,
        day_limit_base_units: int | None = None,
        day_used_base_units: int = 0,
    ) -> None:
        self.fee_base_units = fee_base_units
        self.balance_base_units = balance_base_units
        self.available_base_units = available_base_units
        self.under_way_base_units = under_way_base_units
        self.day_limit_base_units = day_limit_base_units
        self.day_used_base_units = day_used_base_units
        self.by_day_limit = available_base_units >= fee_base_units
        aside = (
            f", {format_ifm(under_way_base_units)} of it held by calls under way"
            if under_way_base_units
            else ""
        )
        extra: dict[str, Any] = {
            "price": amount_document(fee_base_units),
            "balance": amount_document(balance_base_units),
            "available": amount_document(available_base_units),
            "under_way": amount_document(under_way_base_units),
            "top_up": TOP_UP,
        }
        if self.by_day_limit and day_limit_base_units is not None:
            extra["day_limit"] = amount_document(day_limit_base_units)
            extra["day_used"] = amount_document(day_used_base_units)
            super().__init__(
                "day-limit-reached",
                f"This call costs {format_ifm(fee_base_units)}, and of the "
                f"{format_ifm(day_limit_base_units)} that the wallet may spend in a day "
                f"{format_ifm(day_used_base_units)} are taken. Nothing was charged.",
                status=402,
                remedy="Raise the limit at /account/balance, or wait until midnight UTC.",
                extra=extra,
            )
            return
        super().__init__(
            "insufficient-funds",
            f"This call costs {format_ifm(fee_base_units)}, and the balance is "
            f"{format_ifm(balance_base_units)}{aside}. Nothing was charged.",
            status=402,
            remedy="Top up at /account/balance, or with `infra deposit`.",
            extra=extra,
        )


def _spoken(account: str) -> str:
    kind, _, address = account.partition(":")
    return f"The balance of {address}" if kind == "wallet" else account


def malformed(detail: str) -> Problem:
    """The refusal of what no transfer, hold or limit can be."""
    return Problem("transfer-malformed", detail, remedy="Nothing was moved. Correct it.")


def transfer_differs(id: UUID) -> Problem:
    """The refusal of an id that the books have with another content."""
    return Problem(
        "transfer-differs",
        f"Transfer {id} is in the books with another content. Nothing was moved.",
        status=409,
        remedy="Use an id of its own for each transfer.",
    )


def hold_differs(id: UUID) -> Problem:
    """The refusal of a hold's id that the books have with another content."""
    return Problem(
        "hold-differs",
        f"Hold {id} is in the books with another content. Nothing was held.",
        status=409,
        remedy="Use an id of its own for each hold.",
    )


def hold_ended(id: UUID, remaining_base_units: int, asked_base_units: int) -> Problem:
    """The refusal to settle more of a hold than what remains of it."""
    return Problem(
        "hold-ended",
        f"Of hold {id} {format_ifm(remaining_base_units)} remain, and "
        f"{format_ifm(asked_base_units)} are asked for. Nothing was moved.",
        status=409,
        remedy="Settle what remains, or hold again.",
        extra={"remaining": amount_document(remaining_base_units)},
    )


def breaks(error: IntegrityError) -> str:
    """The name of the constraint that a statement broke."""
    return getattr(getattr(error.__cause__, "diag", None), "constraint_name", None) or ""


def short_account(error: IntegrityError, codes: Mapping[int, str]) -> InsufficientFunds:
    """The refusal for a broken floor; ``codes`` are those of the accounts that were locked.

    To be asked outside of the transaction that failed.
    """
    detail = getattr(getattr(error.__cause__, "diag", None), "message_detail", None) or ""
    failing = _FAILING_ID.search(detail)
    code = codes.get(int(failing[1]), "") if failing else ""
    account = Account.objects.filter(code=code).first()
    available = 0 if account is None else available_of(account)
    return InsufficientFunds(code or "An account", available)


def available_of(account: Account) -> int:
    """What of an account is above its floor and not set aside, in base units."""
    # In int throughout: arithmetic of Decimals rounds to 28 digits.
    return (
        int(account.posted_base_units)
        - int(account.held_base_units)
        - int(account.leased_base_units)
        - int(account.charged_base_units)
        - int(account.floor_base_units or 0)
    )
