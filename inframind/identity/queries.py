"""Reads: whose token is this?"""

from __future__ import annotations

from datetime import UTC
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection
from psycopg import AsyncConnection

from inframind.identity import tokens
from inframind.identity.caller import Caller
from inframind.lib.problem import Problem

# Written out, because the gateway asks this on every call, and Django takes longer to write it
# than PostgreSQL to answer.
_FIND: Final = """
    SELECT token.wallet_id, token.actions, token.models_allowed, token.expires_at,
           CASE WHEN token.revoked_at IS NOT NULL THEN 'revoked'
                WHEN token.expires_at <= statement_timestamp() THEN 'expired'
                WHEN NOT wallet.is_active THEN 'closed'
                ELSE 'good' END,
           coalesce(token.last_used_at > statement_timestamp() - interval '1 minute', false)
    FROM identity_token token JOIN identity_wallet wallet ON wallet.address = token.wallet_id
    WHERE token.id = %s
"""
# At most once a minute, so that a busy token does not become a busy row.
_NOTE_USE: Final = """
    UPDATE identity_token SET last_used_at = statement_timestamp() WHERE id = %s
"""


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
    token_id = _issued(text)
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [token_id])
        caller, used_lately = _judge(token_id, cursor.fetchone())
        if not used_lately:
            cursor.execute(_NOTE_USE, [token_id])
    return caller


async def authenticate_on(database: AsyncConnection, text: str) -> Caller:
    """As ``authenticate``, over an asynchronous connection."""
    token_id = _issued(text)
    found = await database.execute(_FIND, [token_id])
    caller, used_lately = _judge(token_id, await found.fetchone())
    if not used_lately:
        await database.execute(_NOTE_USE, [token_id])
    return caller


def _issued(text: str) -> UUID:
    try:
        return tokens.verify(settings.SECRET_KEY, text)
    except ValueError as error:
        raise _invalid(f"The token cannot be used: {error}.") from None


def _judge(token_id: UUID, row: Any) -> tuple[Caller, bool]:
    """The caller of a row of ``_FIND``, and whether the token's use was noted lately."""
    if row is None:
        raise _invalid("The token cannot be used: it is unknown.")
    address, actions, models_allowed, expires_at, standing, used_lately = row
    if standing == "revoked":
        raise _invalid("The token was revoked.")
    if standing == "expired":
        raise _invalid(f"The token expired at {expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}.")
    if standing == "closed":
        raise _invalid("The token's wallet is closed.")
    caller = Caller(
        address=address,
        token_id=token_id,
        actions=frozenset(actions),
        models_allowed=frozenset(models_allowed),
    )
    return caller, used_lately
