"""`manage.py publish_root EPOCH`: bring a sealed epoch's root to the chain."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.payouts import services
from inframind.lib.problem import Problem


class Command(BaseCommand):
    help = (
        "Queues the proposal of a sealed epoch's root, once however often it runs; a revoked or "
        "failed one is proposed anew. The worker sends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("epoch", type=int)
        parser.add_argument("--send", action="store_true", help="Send what is queued right away.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            row = services.publish_root(options["epoch"])
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}") from None
        if options["send"]:
            done = services.send_due()
            if done.reason:
                self.stderr.write(done.reason)
            row.refresh_from_db()
        self.stdout.write(f"{row.key}: {row.get_state_display().lower()} {row.reason}".strip())
