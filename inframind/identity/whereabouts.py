"""Where a wallet is signed in: its browsers, and its programs by `infra login`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from inframind.identity import changes
from inframind.identity.models import Session, Token, Wallet
from inframind.identity.services import revoke_token
from inframind.identity.signin import end_session
from inframind.lib.problem import not_found

# The first that fits: browsers name the ones that they descend from, too.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Darwin", "macOS"),
    ("Linux", "Linux"),
)
_PRODUCT: Final = re.compile(r"([A-Za-z][A-Za-z0-9._-]{0,30})(?:/(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Place:
    """One of them. ``id`` is a session's digest or a token's id; ``is_this`` marks the asker's."""

    id: str
    is_browser: bool
    words: str
    user_agent: str
    remote_address: str
    since: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_this: bool


def places_of(wallet: Wallet, *, this: str) -> list[Place]:
    """Every one that is signed in now; this one first, then the latest seen."""
    browsers = [
        Place(
            id=each.pk,
            is_browser=True,
            words=describe(each.user_agent),
            user_agent=each.user_agent,
            remote_address=each.remote_address or "",
            since=each.created_at,
            last_seen_at=each.last_seen_at,
            expires_at=each.expire_date,
            is_this=each.pk == this,
        )
        for each in Session.objects.filter(wallet=wallet, expire_date__gt=Now())
    ]
    programs = [
        Place(
            id=str(each.pk),
            is_browser=False,
            words=describe(each.user_agent),
            user_agent=each.user_agent,
            remote_address="",
            since=each.created_at,
            last_seen_at=each.last_used_at or each.created_at,
            expires_at=each.expires_at,
            is_this=False,
        )
        for each in _logins(wallet)
    ]
    latest_first = sorted([*browsers, *programs], key=lambda each: each.last_seen_at, reverse=True)
    return sorted(latest_first, key=lambda each: not each.is_this)


def end_place(*, wallet: Wallet, place_id: str) -> None:
    """Signs that browser or program out at once. Raises a 404 ``Problem`` when it has no such."""
    try:
        token_id = UUID(place_id)
    except ValueError:
        end_session(wallet=wallet, session_id=place_id[:64])
        return
    if not _logins(wallet).filter(pk=token_id).exists():
        raise not_found("session with this id")
    revoke_token(token_id=token_id, wallet=wallet)


@transaction.atomic
def end_other_places(*, wallet: Wallet, this: str) -> int:
    """Signs everything but the session ``this`` out; how many there were."""
    sessions, _ = Session.objects.filter(wallet=wallet).exclude(pk=this).delete()
    programs = _logins(wallet).update(revoked_at=Now())
    changes.wallet_changed(wallet.pk)
    return sessions + programs


def describe(user_agent: str) -> str:
    """`Firefox on Linux`, `infra 0.1 on macOS`; for what says nothing: `An unknown program`."""
    system = next((word for mark, word in _SYSTEMS if mark in user_agent), "")
    name = ""
    if user_agent.startswith("Mozilla/"):
        name = next((word for mark, word in _BROWSERS if mark in user_agent), "A browser")
    elif product := _PRODUCT.match(user_agent):
        name = " ".join(filter(None, product.groups()))
    if not name:
        return "An unknown program"
    return f"{name} on {system}" if system else name


def _logins(wallet: Wallet) -> QuerySet[Token]:
    return Token.objects.filter(
        wallet=wallet, kind=Token.Kind.LOGIN, revoked_at__isnull=True, expires_at__gt=Now()
    )
