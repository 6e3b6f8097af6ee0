"""Reads: whose token is this?"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import Case, Value, When
from django.db.models.functions import Now

from inframind.identity import tokens
from inframind.identity.caller import Caller
from inframind.identity.models import Token
from inframind.lib.problem import Problem

_LAST_USE_RESOLUTION = timedelta(minutes=1)


def _invalid(detail: str) -> Problem:
    return Problem(
        "invalid-token",
        detail,
        status=401,
        remedy="Get a fresh token from the registry and send it as `Authorization: Bearer …`.",
        headers={"WWW-Authenticate": 'Bearer realm="inframind", error="invalid_token"'},
    )


def token_required(detail: str) -> Problem:
    """A 401 for a caller who brought no token where one is needed (RFC 6750, section 3)."""
    return Problem(
        "token-required",
        detail,
        status=401,
        remedy="Send `Authorization: Bearer <token>`.",
        headers={"WWW-Authenticate": 'Bearer realm="inframind"'},
    )


def authenticate(text: str) -> Caller:
    """The caller behind a bearer token, by the database's clock.

    Raises a 401 ``Problem`` when it is garbled, foreign, expired or revoked.
    """
    try:
        token_id = tokens.verify(settings.SECRET_KEY, text)
    except ValueError as error:
        raise _invalid(f"The token cannot be used: {error}.") from None
    token = (
        Token.objects.select_related("wallet")
        .annotate(
            standing=Case(
                When(revoked_at__isnull=False, then=Value("revoked")),
                When(expires_at__lte=Now(), then=Value("expired")),
                When(wallet__is_active=False, then=Value("closed")),
                default=Value("good"),
            ),
            used_lately=Case(
                When(last_used_at__gt=Now() - _LAST_USE_RESOLUTION, then=Value(True)),
                default=Value(False),
            ),
        )
        .filter(pk=token_id)
        .first()
    )
    if token is None:
        raise _invalid("The token cannot be used: it is unknown.")
    if token.standing == "revoked":
        raise _invalid("The token was revoked.")
    if token.standing == "expired":
        raise _invalid(f"The token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}.")
    if token.standing == "closed":
        raise _invalid("The token's wallet is closed.")
    _note_use(token, used_lately=token.used_lately)
    return Caller(
        address=token.wallet_id,
        token_id=token.pk,
        actions=frozenset(token.actions),
        models_allowed=frozenset(token.models_allowed),
    )


def _note_use(token: Token, *, used_lately: bool) -> None:
    # At most one write a minute, so that a busy token does not become a busy row.
    if not used_lately:
        Token.objects.filter(pk=token.pk).update(last_used_at=Now())
