"""`manage.py probe_nodes`: look at every node now, and load what is due."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from marketplace.mesh import services


class Command(BaseCommand):
    help = "Looks at every node and every placed model once, and prints what it saw."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--sync", action="store_true", help="Read TRITON_NODES first.")
        parser.add_argument("--place", action="store_true", help="Load what is due afterwards.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["sync"]:
            services.sync_configured_nodes()
        for name, up in services.probe_all().items():
            self.stdout.write(f"{name}: {'ready' if up else 'does not answer'}")
        if options["place"]:
            self.stdout.write(f"tried to load: {services.place_due()}")
