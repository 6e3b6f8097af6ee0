"""Opening and locking accounts, which every movement of money begins with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from django.db import IntegrityError, connection, transaction

from billing.ledger import codes
from billing.ledger.models import Account, Hold, Transfer
from billing.ledger.refusals import FLOOR, breaks, malformed, short_account
from inframind.identity.models import Wallet

MAX_BASE_UNITS: Final = 2**256 - 1
SUBJECT_CHARACTERS: Final = 140

_OPEN: Final = """
    INSERT INTO ledger_account (
        code, kind, wallet_id, floor_base_units, posted_base_units, held_base_units,
        leased_base_units, charged_base_units, day_used_base_units
    )
    SELECT code, kind, nullif(wallet, ''), CASE WHEN kind = 'chain' THEN NULL ELSE 0 END,
           0, 0, 0, 0, 0
    FROM unnest(%(codes)s::text[], %(kinds)s::text[], %(wallets)s::text[])
        AS asked (code, kind, wallet)
    ORDER BY code
    ON CONFLICT (code) DO NOTHING
"""
_LOCK: Final = """
    SELECT id, code FROM ledger_account WHERE code = ANY(%(codes)s)
    ORDER BY id FOR NO KEY UPDATE
"""


def locked(names: Iterable[str]) -> dict[str, int]:
    """Opens the accounts of these codes where they are missing, and locks all: code to id.

    Has to run in a transaction, which keeps the locks to its end. Raises ``Problem`` 400
    ``no-such-account``.
    """
    kinds = {code: codes.kind_of(code) for code in sorted(set(names))}
    wanted = list(kinds)
    with connection.cursor() as cursor:
        cursor.execute("SELECT code FROM ledger_account WHERE code = ANY(%s)", [wanted])
        known = {code for (code,) in cursor.fetchall()}
        missing = [code for code in wanted if code not in known]
        if missing:
            wallets = [
                codes.address_of(code) if kinds[code] == Account.Kind.WALLET else ""
                for code in missing
            ]
            Wallet.objects.bulk_create(
                [Wallet(address=address) for address in wallets if address], ignore_conflicts=True
            )
            cursor.execute(
                _OPEN,
                {
                    "codes": missing,
                    "kinds": [kinds[code].value for code in missing],
                    "wallets": wallets,
                },
            )
        cursor.execute(_LOCK, {"codes": wanted})
        return {code: pk for pk, code in cursor.fetchall()}


def codes_of(rows: Iterable[Transfer | Hold]) -> dict[int, str]:
    """The accounts that transfers or holds are between: id to code."""
    touched = {pk for each in rows for pk in (each.debit_id, each.credit_id)}
    return dict(Account.objects.filter(pk__in=touched).values_list("pk", "code"))


@contextmanager
def moving(names: Iterable[str]) -> Iterator[dict[str, int]]:
    """A transaction in which the accounts of these codes are locked, in the order of their ids.

    Those that are missing are opened. Gives the id of each code. Raises ``Problem`` 400
    ``no-such-account``, and 402 ``insufficient-funds`` for what breaks a floor inside of it.
    """
    ids: dict[str, int] = {}
    try:
        with transaction.atomic():
            ids.update(locked(names))
            yield ids
    except IntegrityError as error:
        if breaks(error) != FLOOR:
            raise
        raise short_account(error, {pk: code for code, pk in ids.items()}) from error


def check(amount_base_units: int, debit: str, credit: str, subject: str) -> None:
    """Raises ``Problem`` 400 ``transfer-malformed`` for what no transfer or hold can be."""
    if not 0 < amount_base_units <= MAX_BASE_UNITS:
        raise malformed(f"An amount is from 1 to 2**256 - 1 base units, not {amount_base_units}.")
    if debit == credit:
        raise malformed(f"{debit} cannot pay itself.")
    if len(subject) > SUBJECT_CHARACTERS or not subject.isprintable():
        raise malformed(f"A subject is a line of at most {SUBJECT_CHARACTERS} characters.")


def set_day_limit(wallet: str, limit_base_units: int | None) -> None:
    """What the wallet spends in a day (UTC) at most; None: as much as it has.

    What it has taken today counts already. Raises ``Problem`` 400 for a limit that is no amount,
    ``ValueError`` for what is no address.
    """
    if limit_base_units is not None and not 0 <= limit_base_units <= MAX_BASE_UNITS:
        raise malformed(f"A limit is from 0 to 2**256 - 1 base units, not {limit_base_units}.")
    code = codes.wallet_code(wallet)
    with moving([code]) as ids:
        Account.objects.filter(pk=ids[code]).update(day_limit_base_units=limit_base_units)
