"""Celery: recompute the shelves."""

from __future__ import annotations

from celery import shared_task

from curation.lists import services


@shared_task(name="lists.refresh")
def refresh() -> None:
    services.refresh()
