"""Rows of models, versions and allow lists that were saved are news to whoever remembers them.

What is changed in bulk tells so itself.
"""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from inframind.identity import changes
from marketplace.catalog.models import AllowEntry, GroupMember, Model, Version


@receiver([post_save, post_delete], sender=Model)
def _model(instance: Model, **_: Any) -> None:
    changes.model_changed(instance.pk)


@receiver([post_save, post_delete], sender=Version)
@receiver([post_save, post_delete], sender=AllowEntry)
def _of_a_model(instance: Version | AllowEntry, **_: Any) -> None:
    changes.model_changed(instance.model_id)


@receiver([post_save, post_delete], sender=GroupMember)
def _member(instance: GroupMember, **_: Any) -> None:
    changes.wallet_changed(instance.address)
