"""Signing in with a wallet: a nonce is given out, comes back in a signed message, and is used up in
the transaction that makes what it yields, so that it yields one thing at most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Final, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from inframind.identity import changes
from inframind.identity.limits import take
from inframind.identity.models import Session, SignInNonce, Token, Wallet
from inframind.identity.signatures import is_signed_by
from inframind.lib import siwe
from inframind.lib.problem import Problem, Violation, not_found

STATEMENT: Final = (
    "Sign in to InfraMind. Signing is free: it sends no transaction "
    "and gives nobody access to your funds."
)
# Kept for a while, so that a late answer is told the truth about its nonce.
_KEPT_AFTER_EXPIRY: Final = timedelta(hours=1)
_USE: Final = """
    UPDATE identity_signinnonce SET used_at = statement_timestamp()
    WHERE nonce = %s AND bound_to = %s
      AND used_at IS NULL AND expires_at > statement_timestamp()
    RETURNING nonce
"""
Yield = TypeVar("Yield")


@dataclass(frozen=True)
class Place:
    """What a sign-in message has to name, by the settings."""

    domain: str
    uri: str
    chain_id: int


def place() -> Place:
    """Where one signs in: host and port of ``SITE_URL``, its sign-in page, the chain."""
    return Place(
        domain=urlsplit(settings.SITE_URL).netloc,
        uri=f"{settings.SITE_URL}/signin",
        chain_id=settings.CHAIN_ID,
    )


@transaction.atomic
def issue_nonce(*, remote_address: str, browser: str = "") -> SignInNonce:
    """A number for one sign-in, good for ``SIGN_IN_NONCE_SECONDS``.

    ``browser`` is the secret of the browser that asks, which has to bring it again; empty for
    programs. Raises a 429 ``Problem`` when one address asks too often.
    """
    take("sign-in-nonce", remote_address, settings.SIGN_INS_PER_MINUTE)
    row = SignInNonce.objects.create(
        nonce=token_hex(16),
        bound_to=_bound_to(browser),
        expires_at=Now() + timedelta(seconds=settings.SIGN_IN_NONCE_SECONDS),
    )
    row.refresh_from_db()
    return row


def message_for(row: SignInNonce, address: str) -> siwe.Message:
    """What this checksummed address has to sign. Raises ``ValueError`` for another address."""
    where = place()
    return siwe.Message(
        domain=where.domain,
        address=address,
        statement=STATEMENT,
        uri=where.uri,
        chain_id=where.chain_id,
        nonce=row.nonce,
        issued_at=siwe.rfc3339(row.created_at),
        expiration_time=siwe.rfc3339(row.expires_at),
    )


def sign_in(
    *,
    message: str,
    signature: str,
    yields: Callable[[Wallet], Yield],
    remote_address: str,
    browser: str = "",
) -> Yield:
    """What ``yields`` makes for the wallet that signed the message, called once per nonce and in
    the same transaction as its use.

    Raises ``Problem``: 422 ``sign-in-message-invalid`` or ``signature-invalid``, 409
    ``nonce-unusable``, 403 ``wallet-closed``, 429, and 503 where a contract wallet cannot be asked.
    Only a sign-in that succeeds uses the nonce up.
    """
    take("sign-in", remote_address, settings.SIGN_INS_PER_MINUTE)
    parsed = _read(message)
    bound_to = _bound_to(browser)
    # Asked first, for a clear answer, and because a contract wallet costs a question to the chain.
    row = _usable(parsed.nonce, bound_to)
    _check(parsed, row)
    _check_signature(parsed.address, message, signature)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_USE, [parsed.nonce, bound_to])
            used = cursor.fetchone() is not None
        if not used:
            raise _unusable("This sign-in message was used already, or has just expired.")
        wallet = Wallet.objects.of(parsed.address)
        if not wallet.is_active:
            raise Problem(
                "wallet-closed",
                "This wallet's account is closed.",
                status=403,
                remedy="Write to the operators of this registry if that is a mistake.",
            )
        return yields(wallet)


@transaction.atomic
def end_session(*, wallet: Wallet, session_id: str) -> None:
    """Sign one browser of the wallet out at once. Raises a 404 ``Problem`` when it has no such."""
    ended, _ = Session.objects.filter(pk=session_id.replace("\x00", ""), wallet=wallet).delete()
    if not ended:
        raise not_found("session with this id")


@transaction.atomic
def end_every_session(*, wallet: Wallet) -> None:
    """Sign every browser and every program (`infra login`) of the wallet out; its scoped tokens
    stay."""
    Wallet.objects.filter(pk=wallet.pk).update(session_serial=F("session_serial") + 1)
    Session.objects.filter(wallet=wallet).delete()
    Token.objects.filter(wallet=wallet, kind=Token.Kind.LOGIN, revoked_at=None).update(
        revoked_at=Now()
    )
    changes.wallet_changed(wallet.pk)


def sweep_nonces() -> int:
    """Delete the nonces that can no longer be used; how many there were."""
    deleted, _ = SignInNonce.objects.filter(expires_at__lt=Now() - _KEPT_AFTER_EXPIRY).delete()
    return deleted


def _read(message: str) -> siwe.Message:
    try:
        return siwe.parse(message)
    except ValueError as error:
        raise _invalid_message(f"It cannot be read as a sign-in message: {error}.") from None


def _check(parsed: siwe.Message, row: SignInNonce) -> None:
    where = place()
    now = _now()
    try:
        siwe.check(
            parsed,
            domain=where.domain,
            uri=where.uri,
            chain_id=where.chain_id,
            nonce=row.nonce,
            now=now,
        )
        if siwe.moment(parsed.issued_at) < row.created_at - siwe.CLOCK_SKEW:
            raise ValueError(f"the message is older than its nonce: {parsed.issued_at}")
    except ValueError as error:
        raise _invalid_message(f"It does not sign in here: {error}.") from None


def _check_signature(address: str, message: str, signature: str) -> None:
    try:
        if is_signed_by(address, message, signature):
            return
        detail = f"{address} did not sign this message."
    except ValueError as error:
        detail = f"The signature cannot be used: {error}."
    raise Problem(
        "signature-invalid",
        detail,
        status=422,
        violations=(Violation("/signature", detail),),
        remedy="Sign exactly this message, with the account whose address it names.",
        retry_safe=True,
    )


def _usable(nonce: str, bound_to: str) -> SignInNonce:
    row = (
        SignInNonce.objects.annotate(
            expired=ExpressionWrapper(Q(expires_at__lte=Now()), output_field=BooleanField())
        )
        .filter(nonce=nonce, bound_to=bound_to)
        .first()
    )
    if row is None:
        # One answer for a number that nobody got and for one that another browser got.
        raise _unusable("This message has a nonce that was not given to you here.")
    if row.used_at is not None:
        raise _unusable("This sign-in message was used already.")
    if row.expired:
        raise _unusable("This sign-in message has expired.")
    return row


def _now() -> datetime:
    """The database's clock, by which nonces live and die."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        (now,) = cursor.fetchone()
    return now  # type: ignore[no-any-return]


def _bound_to(browser: str) -> str:
    return hashlib.sha256(browser.encode()).hexdigest() if browser else ""


def _unusable(detail: str) -> Problem:
    return Problem(
        "nonce-unusable",
        detail,
        status=409,
        remedy="Ask for a fresh message and sign that one.",
        retry_safe=True,
    )


def _invalid_message(detail: str) -> Problem:
    return Problem(
        "sign-in-message-invalid",
        detail,
        status=422,
        violations=(Violation("/message", detail),),
        remedy="Ask for a fresh message and sign it as it is, to the last letter.",
        retry_safe=True,
    )
