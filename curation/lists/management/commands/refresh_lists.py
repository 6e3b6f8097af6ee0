"""`manage.py refresh_lists`: recompute the curated shelves now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from curation.lists.services import refresh


class Command(BaseCommand):
    help = "Recompute the curated shelves from the last 30 days of calls."

    def handle(self, *args: Any, **options: Any) -> None:
        for slug, count in refresh().items():
            self.stdout.write(f"{slug:<18} {count}")
