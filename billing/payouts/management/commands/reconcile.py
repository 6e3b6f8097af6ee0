"""`manage.py reconcile`: books against chain against receipts."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.epochs import sources
from billing.ledger import reconciliation as books
from billing.payouts import reconciliation


class Command(BaseCommand):
    help = (
        "Compares books, receipts and chain, names every row that differs, and exits with 1 where "
        "one does, or where the chain cannot be asked."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--rebuild",
            action="store_true",
            help="First write the kept sums of accounts and holds anew from the facts.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["rebuild"]:
            mended = books.rebuild(lambda: sources.receipts().unposted())
            self.stdout.write(f"{mended} kept sums were wrong and are written anew.")
        count = 0
        try:
            for each in reconciliation.differences():
                count += 1
                self.stdout.write(str(each))
        except reconciliation.NotCompared as error:
            raise CommandError(str(error), returncode=1) from None
        if count:
            raise CommandError(f"{count} differences.", returncode=1)
        self.stdout.write("Books, receipts and chain agree.")
