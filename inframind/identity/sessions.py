"""Sessions in the database, found by a digest of the cookie, so the table is no use to a thief."""

from __future__ import annotations

import hashlib
import ipaddress
import time
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessions
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.http import HttpRequest

from inframind.identity.models import Session

_SEEN_EVERY = timedelta(minutes=1)
_LATELY_SECONDS = 15 * 60
_BROWSER = "browser"
_SIGNED_IN_AT = "signed_in_at"


def digest_of(session_key: str) -> str:
    """160 bits of SHA-256, hexadecimal: the primary key of a session's row."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


def note_sign_in(request: HttpRequest) -> None:
    """Keep with the session when its wallet signed, and what browser it belongs to, for its owner
    to recognise it by."""
    request.session[_SIGNED_IN_AT] = int(time.time())
    address = request.META.get("REMOTE_ADDR", "")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        address = None
    request.session[_BROWSER] = {
        "user_agent": request.headers.get("User-Agent", "")[:200].replace("\x00", ""),
        "remote_address": address,
    }


def signed_in_lately(request: HttpRequest) -> bool:
    """Whether the wallet signed for this session within the last quarter of an hour: a session that
    was stolen is seldom that fresh, and makes no signature."""
    signed_in_at = request.session.get(_SIGNED_IN_AT)
    if not isinstance(signed_in_at, int):
        return False
    return 0 <= time.time() - signed_in_at < _LATELY_SECONDS


class SessionStore(DatabaseSessions):
    """As Django's own over ``Session``, which knows the wallet and the browser besides.

    A row is made once; afterwards it is only ever updated in place, so a session that was revoked
    stays so, whatever a request that began before it still wants to save.
    """

    @classmethod
    def get_model_class(cls) -> type[Session]:
        return Session

    def _get_session_from_db(self) -> Session | None:
        if self.session_key is None:
            return None
        key = digest_of(self.session_key)
        row = Session.objects.filter(pk=key, expire_date__gt=Now()).first()
        if row is None:
            self._session_key = None
            return None
        # At most once a minute, so that a busy browser does not become a busy row.
        Session.objects.filter(pk=key, last_seen_at__lt=Now() - _SEEN_EVERY).update(
            last_seen_at=Now()
        )
        return row

    def exists(self, session_key: str) -> bool:
        return Session.objects.filter(pk=digest_of(session_key)).exists()

    def create_model_instance(self, data: dict[str, Any]) -> Session:
        return Session(
            session_key=digest_of(self._get_or_create_session_key()),  # type: ignore[attr-defined]
            **self._columns(data),
        )

    def _columns(self, data: dict[str, Any]) -> dict[str, Any]:
        """What a save may write; the times of the row are not among it."""
        browser = data.get(_BROWSER, {})
        return {
            "session_data": self.encode(data),
            "expire_date": self.get_expiry_date(),
            "wallet_id": data.get(SESSION_KEY),
            "user_agent": browser.get("user_agent", ""),
            "remote_address": browser.get("remote_address"),
        }

    def save(self, must_create: bool = False) -> None:
        """Raises ``CreateError`` where the row must be new and is not, and ``UpdateError`` where
        it is gone; then nothing is written."""
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        if must_create:
            try:
                with transaction.atomic():
                    self.create_model_instance(data).save(force_insert=True)
            except IntegrityError:
                raise CreateError from None
            return
        # `_get_session` forgets the key of a session that is gone.
        key = self.session_key
        row = Session.objects.filter(pk=digest_of(key)) if key else Session.objects.none()
        if not row.update(**self._columns(data)):
            raise UpdateError

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key is not None:
            Session.objects.filter(pk=digest_of(key)).delete()

    async def _aget_session_from_db(self) -> Session | None:
        return await sync_to_async(self._get_session_from_db)()

    async def aexists(self, session_key: str) -> bool:
        return await sync_to_async(self.exists)(session_key)

    async def asave(self, must_create: bool = False) -> None:
        await sync_to_async(self.save)(must_create)

    async def adelete(self, session_key: str | None = None) -> None:
        await sync_to_async(self.delete)(session_key)
