"""Reads: whose token is this, and which does a wallet have?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Case, CharField, Count, Exists, OuterRef, QuerySet, Value, When
from django.db.models.functions import Now
from psycopg import AsyncConnection

from inframind.identity import tokens
from inframind.identity.caller import Caller
from inframind.identity.models import Token
from inframind.identity.tokens import Presented
from inframind.lib.access import Role
from inframind.lib.problem import Problem, not_found
from inframind.lib.scopes import Scope, in_ranges

# Written out, because the gateway asks this on every call, and Django takes longer to write it
# than PostgreSQL to answer.
_FIND: Final = """
    SELECT token.wallet_id, token.actions, token.model_scope, token.models_allowed,
           token.ip_ranges, token.meter_id, meter.calls_limit, meter.spend_limit_base_units,
           token.expires_at, extract(epoch FROM statement_timestamp()),
           CASE WHEN token.revoked_at IS NOT NULL OR known.revoked THEN 'revoked'
                WHEN token.expires_at <= statement_timestamp() THEN 'expired'
                WHEN NOT wallet.is_active THEN 'closed'
                ELSE 'good' END,
           coalesce(token.last_used_at > statement_timestamp() - interval '1 minute', false)
               AND coalesce(known.used_lately, true),
           wallet.is_staff,
           EXISTS (SELECT FROM identity_seat WHERE wallet_id = wallet.address AND role = 'curator'
                   AND begins_at <= statement_timestamp()
                   AND (ends_at IS NULL OR ends_at > statement_timestamp())),
           known.ids
    FROM identity_token token
    JOIN identity_wallet wallet ON wallet.address = token.wallet_id
    JOIN identity_meter meter ON meter.id = token.meter_id,
    LATERAL (
        SELECT coalesce(bool_or(revoked_at IS NOT NULL), false) AS revoked,
               bool_and(coalesce(last_used_at > statement_timestamp() - interval '1 minute',
                                 false)) AS used_lately,
               array_agg(id) AS ids
        FROM identity_narrowing WHERE token_id = token.id AND id = ANY(%s)
    ) known
    WHERE token.id = %s
"""
_ROLES: Final = """
    SELECT wallet.is_staff,
           EXISTS (SELECT FROM identity_seat WHERE wallet_id = wallet.address AND role = 'curator'
                   AND begins_at <= statement_timestamp()
                   AND (ends_at IS NULL OR ends_at > statement_timestamp()))
    FROM identity_wallet wallet WHERE wallet.address = %s AND wallet.is_active
"""
# At most once a minute, so that a busy token does not become a busy row; asked again inside, since
# many calls can find it due at once.
_NOTE_USE: Final = """
    WITH used AS (
        UPDATE identity_narrowing SET last_used_at = statement_timestamp()
        WHERE id = ANY(%s) AND (last_used_at IS NULL
                                OR last_used_at <= statement_timestamp() - interval '1 minute')
    )
    UPDATE identity_token SET last_used_at = statement_timestamp()
    WHERE id = %s AND (last_used_at IS NULL
                       OR last_used_at <= statement_timestamp() - interval '1 minute')
"""


class _Row(NamedTuple):
    address: str
    actions: list[str]
    model_scope: str
    models_allowed: list[str]
    ip_ranges: list[str]
    meter_id: UUID
    calls_limit: int | None
    spend_limit_base_units: Any
    expires_at: datetime
    now: Any
    standing: str
    used_lately: bool
    is_staff: bool
    is_curator: bool
    known: list[UUID] | None


@dataclass(frozen=True)
class Recognised:
    """A token that is good at this moment: who calls with it, and what it and its narrowings say.

    ``known``: which of its narrowings have a row. ``lasts_seconds``: until it expires, from when
    the database was asked; infinite where it does not.
    """

    caller: Caller
    scope: Scope
    presented: Presented
    known: frozenset[UUID]
    used_lately: bool
    lasts_seconds: float

    @property
    def unknown_meters(self) -> bool:
        """Whether a narrowing with a limit is seen for the first time."""
        return not self.known.issuperset(self.presented.metered_ids)


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


def authenticate(text: str, remote_address: str = "") -> Caller:
    """The caller behind a bearer token that came from an IP address, by the database's clock.

    Raises a ``Problem``: 401 when the token or one that it was narrowed from is garbled, foreign,
    expired or revoked, 403 when it is not for this address.
    """
    found = recognise(text)
    check_address(found.scope, remote_address)
    with connection.cursor() as cursor:
        if found.unknown_meters:
            cursor.execute(*tokens.rows_of_narrowings(found.presented))
        if not found.used_lately:
            cursor.execute(_NOTE_USE, [list(found.presented.chain), found.presented.token_id])
    return found.caller


async def authenticate_on(database: AsyncConnection, text: str, remote_address: str = "") -> Caller:
    """As ``authenticate``, over an asynchronous connection."""
    found = await recognise_on(database, text)
    check_address(found.scope, remote_address)
    await use_on(database, found)
    return found.caller


async def recognise_on(database: AsyncConnection, text: str) -> Recognised:
    """As ``recognise``, over an asynchronous connection."""
    presented = _issued(text)
    cursor = await database.execute(_FIND, [list(presented.chain), presented.token_id])
    return _judge(presented, await cursor.fetchone())


async def use_on(database: AsyncConnection, found: Recognised) -> None:
    """Notes that a token is used, for whose address that was checked; makes the rows that its
    narrowings lack."""
    presented = found.presented
    if found.unknown_meters:
        await database.execute(*tokens.rows_of_narrowings(presented))
    if not found.used_lately:
        await database.execute(_NOTE_USE, [list(presented.chain), presented.token_id])


def recognise(text: str) -> Recognised:
    """What a token says, without using it. Raises a 401 ``Problem`` when it is not good."""
    presented = _issued(text)
    with connection.cursor() as cursor:
        cursor.execute(_FIND, [list(presented.chain), presented.token_id])
        return _judge(presented, cursor.fetchone())


def caller_of_wallet(address: str) -> Caller:
    """A wallet that acts for itself, with the roles that it has at this moment: a closed or
    unknown one has none beside its own."""
    with connection.cursor() as cursor:
        cursor.execute(_ROLES, [address])
        is_staff, is_curator = cursor.fetchone() or (False, False)
    return Caller(address=address, roles=_roles(is_staff, is_curator))


def tokens_of(address: str) -> QuerySet[Token]:
    """A wallet's tokens, newest first, with ``state`` by the database's clock, ``narrowing_count``,
    ``is_rotated`` (whether it has a successor) and their meter."""
    return (
        Token.objects.filter(wallet=address)
        .select_related("meter")
        .annotate(
            narrowing_count=Count("narrowings"),
            is_rotated=Exists(Token.objects.filter(rotated_from=OuterRef("pk"))),
            state=Case(
                When(revoked_at__isnull=False, then=Value("revoked")),
                When(expires_at__lte=Now(), then=Value("expired")),
                default=Value("active"),
                output_field=CharField(),
            ),
        )
        .order_by("-created_at", "-pk")
    )


def token_of(address: str, token_id: UUID) -> Token:
    """One of ``tokens_of``. Raises a 404 ``Problem`` when it is not the wallet's."""
    found = tokens_of(address).filter(pk=token_id).first()
    if found is None:
        raise not_found("token with this id")
    return found


def _issued(text: str) -> Presented:
    try:
        return tokens.verify(settings.SECRET_KEY, text)
    except ValueError as error:
        raise _invalid(f"The token cannot be used: {error}.") from None


def _judge(presented: Presented, fetched: Any) -> Recognised:
    """The caller of a row of ``_FIND``."""
    if fetched is None:
        raise _invalid("The token cannot be used: it is unknown.")
    row = _Row(*fetched)
    if row.standing == "revoked":
        raise _invalid("The token was revoked.")
    if row.standing == "expired":
        raise _invalid(f"The token expired at {_moment(row.expires_at)}.")
    if row.standing == "closed":
        raise _invalid("The token's wallet is closed.")
    spend = row.spend_limit_base_units
    scope = Scope(
        actions=frozenset(row.actions),
        models=frozenset(row.models_allowed) if row.model_scope == "named" else None,
        owned_only=row.model_scope == "owned",
        expires_at=row.expires_at.timestamp(),
        spend_limit_base_units=None if spend is None else int(spend),
        calls_limit=row.calls_limit,
        ip_ranges=tuple(row.ip_ranges) or None,
    )
    metered = spend is not None or row.calls_limit is not None
    for caveat in presented.caveats:
        scope = scope.narrowed(caveat)
    if scope.expires_at is not None and scope.expires_at <= float(row.now):
        ended_at = datetime.fromtimestamp(scope.expires_at, UTC)
        raise _invalid(f"The token expired at {_moment(ended_at)}.")
    caller = Caller(
        address=row.address,
        token_id=presented.token_id,
        narrowing_id=presented.chain[-1] if presented.chain else None,
        actions=scope.actions,
        names=scope.models,
        owned_only=scope.owned_only,
        roles=_roles(row.is_staff, row.is_curator),
        meters=((row.meter_id,) if metered else ()) + presented.metered_ids,
    )
    lasts_seconds = math.inf if scope.expires_at is None else scope.expires_at - float(row.now)
    return Recognised(
        caller, scope, presented, frozenset(row.known or ()), row.used_lately, lasts_seconds
    )


def check_address(scope: Scope, remote_address: str) -> None:
    """Raises a 403 ``Problem`` for a token that is not for calls from this address."""
    if scope.ip_ranges is None or in_ranges(remote_address, scope.ip_ranges):
        return
    raise Problem(
        "address-not-allowed",
        f"This token is not for calls from {remote_address or 'an unknown address'}.",
        status=403,
        remedy="Call from an address that the token is for, or use another token.",
        headers={"WWW-Authenticate": 'Bearer realm="inframind", error="insufficient_scope"'},
    )


def _roles(is_staff: bool, is_curator: bool) -> frozenset[Role]:
    roles = {Role.SIGNED_IN}
    if is_staff:
        roles.add(Role.STAFF)
    if is_curator:
        roles.add(Role.CURATOR)
    return frozenset(roles)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
