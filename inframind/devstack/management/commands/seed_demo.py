"""`manage.py seed_demo`: real models, published, reviewed, verified and called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from inframind.devstack.seeding import seed, token_file


class Command(BaseCommand):
    help = "Publish the demo models into the running stack. A second run changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--packages", type=Path, default=settings.VAR_DIR / "demo" / "packages")
        parser.add_argument("--token-file", type=Path, default=settings.VAR_DIR / "demo" / "token")

    def handle(self, *args: Any, **options: Any) -> None:
        seed(packages_dir=options["packages"], say=self.stdout.write)
        token_file(options["token_file"])
