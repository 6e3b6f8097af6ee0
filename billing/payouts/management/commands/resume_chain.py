"""`manage.py resume_chain --reason …`: let a halted follower go on."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.payouts import services
from inframind.lib.problem import Problem


class Command(BaseCommand):
    help = (
        "Lets crediting go on after a halt: what a reorganisation took back is taken out of the "
        "books first. Look at reconcile before, and after."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, help="What was found; it is kept.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            resumed = services.resume(reason=options["reason"])
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}") from None
        self.stdout.write(
            f"Crediting goes on after block {resumed.block}: {resumed.undone} events undone, "
            f"{resumed.booked} booked instead."
        )
