"""Celery: recompute the shelves."""

from __future__ import annotations

from celery import shared_task

from curation.lists import services


@shared_task(name="lists.refresh")  # type: ignore[untyped-decorator]  # celery ships no types
def refresh() -> None:
    services.refresh()
