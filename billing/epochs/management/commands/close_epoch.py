"""`manage.py close_epoch`: close the current epoch at once, down to its sealed root."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.epochs import queries, services
from inframind.lib.amounts import format_ifm
from inframind.lib.merkle import NO_ROOT
from inframind.lib.problem import Problem
from inframind.storage.errors import StorageError


class Command(BaseCommand):
    help = (
        "Close the current epoch at once, down to its sealed root. Epochs that a lost process left "
        "closing are finished first. Safe while calls are served, and beside other closers."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "number", nargs="?", type=int, help="the epoch to close, where it is not the open one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            epoch = services.close(options["number"], at_once=True)
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}".strip()) from problem
        except StorageError as error:
            raise CommandError(
                f"The epoch is closed, but not sealed: {error} Nothing is lost: run this again."
            ) from error
        summary = queries.summary_of(epoch.number)
        verdict = "holds" if summary.adds_up else "BROKEN"
        root = bytes(epoch.root) if epoch.root else NO_ROOT
        for name, value in (
            ("epoch", f"{epoch.number}  {epoch.state}"),
            ("receipts", f"{epoch.receipt_count} in {epoch.batch_count} batches"),
            ("revenue", format_ifm(int(epoch.revenue_base_units))),
            ("payees", f"{summary.payees}, {summary.lines} lines"),
            ("shared", format_ifm(summary.shared_base_units)),
            ("treasury", format_ifm(summary.rest_base_units)),
            (
                "sum check",
                f"{verdict}: {summary.charged_base_units} charged = "
                f"{summary.shared_base_units} shared + {summary.rest_base_units} treasury, "
                f"{summary.left_base_units} left (base units)",
            ),
            ("leaves", f"{epoch.leaf_count} of {format_ifm(int(epoch.total_base_units))}"),
            ("root", f"0x{root.hex()}"),
            ("receipts root", f"0x{bytes(epoch.receipts_root or NO_ROOT).hex()}"),
            ("tree", epoch.tree_cid),
            ("receipts dump", epoch.receipts_cid),
        ):
            self.stdout.write(f"{name:<14} {value}")
        if not summary.adds_up:
            raise CommandError(f"Epoch {epoch.number} does not add up. Run reconcile.")
