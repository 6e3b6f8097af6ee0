"""Gateways are told where a model runs, or may, as soon as that is another place."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from inframind.identity import changes
from marketplace.mesh.models import NodeGrant, Placement


@receiver([post_save, post_delete], sender=Placement)
def placement_changed(sender: Any, instance: Placement, **_: Any) -> None:
    """A version came to a node, or went."""
    changes.model_changed(instance.version.model_id)


@receiver([post_save, post_delete], sender=NodeGrant)
def grant_changed(sender: Any, instance: NodeGrant, **_: Any) -> None:
    """An owner named a node, or took that back."""
    changes.model_changed(instance.model_id)
