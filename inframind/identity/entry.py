"""A one-time way in for staff, printed by whoever has a shell on the server.

The link's key is Django's own reset-token scheme over the wallet, its session serial and its last
sign-in: using it changes the last, so it works once, and for ``PASSWORD_RESET_TIMEOUT`` seconds.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.tokens import PasswordResetTokenGenerator

from inframind.identity.models import Wallet


class EntryKeys(PasswordResetTokenGenerator):
    key_salt = "inframind.identity.entry"

    def _make_hash_value(self, user: Any, timestamp: int) -> str:
        last = user.last_login.isoformat() if user.last_login else ""
        return f"{user.pk}{user.session_serial}{user.is_active}{user.is_staff}{last}{timestamp}"


entry_keys = EntryKeys()


def find(address: str, key: str) -> Wallet | None:
    """The staff wallet that this link was made for, if it may still be used."""
    wallet = Wallet.objects.filter(pk=address, is_active=True, is_staff=True).first()
    return wallet if wallet is not None and entry_keys.check_token(wallet, key) else None
