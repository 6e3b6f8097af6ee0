"""`manage.py sweep_packages`: remove stored packages that no version refers to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from marketplace.catalog import services


class Command(BaseCommand):
    help = (
        "Remove packages that a lost process stored a day ago or earlier and never registered, and "
        "blocks that belong to no package. Safe while the registry runs."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        packages, blocks = services.sweep_packages()
        self.stdout.write(f"removed {packages} packages, and {blocks} blocks beside them")
