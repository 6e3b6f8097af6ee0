"""Rows of tokens, wallets and seats that were saved are news to whoever remembers them.

What is changed by ``update`` tells so itself.
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from inframind.identity import changes
from inframind.identity.models import Seat, Token, Wallet


@receiver([post_save, post_delete], sender=Token)
def _token(instance: Token, created: bool = False, **_: Any) -> None:
    if not created:
        changes.token_changed(instance.pk)


@receiver([post_save, post_delete], sender=Wallet)
def _wallet(instance: Wallet, created: bool = False, **_: Any) -> None:
    if not created:
        changes.wallet_changed(instance.pk)


@receiver([post_save, post_delete], sender=Seat)
def _seat(instance: Seat, **_: Any) -> None:
    changes.wallet_changed(instance.wallet_id)
