"""`manage.py seat_curator --wallet 0x… --reason …`: appoint a curator, or end the seat."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from inframind.identity import seats
from inframind.identity.models import Seat, Wallet
from inframind.lib.problem import Problem

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Give a wallet a curator's seat for some days, or end the one that it holds."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", required=True, metavar="0x…")
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--days", type=int, default=30, metavar="30")
        what.add_argument("--end", action="store_true", help="end the seat now")
        parser.add_argument("--reason", required=True, help="kept with the seat")

    def handle(self, *args: Any, **options: Any) -> None:
        days, reason = options["days"], options["reason"]
        if not 1 <= days <= 3_660:
            raise CommandError("A seat is held for 1 to 3660 days.")
        try:
            wallet = Wallet.objects.of(options["wallet"])
            if options["end"]:
                held = seats.open_seats().filter(wallet=wallet, role=Seat.Role.CURATOR).first()
                if held is None:
                    raise CommandError(f"{wallet.pk} holds no curator's seat.")
                seats.end_seat(seat=held, reason=reason, ended_by=None)
                words = f"The curator's seat of {wallet.pk} has ended."
            else:
                seat = seats.appoint_curator(
                    wallet=wallet,
                    ends_at=timezone.now() + timedelta(days=days),
                    reason=reason,
                    granted_by=None,
                )
                words = f"{wallet.pk} is a curator until {seat.ends_at:%Y-%m-%d %H:%M} UTC."
        except ValueError as error:
            raise CommandError(str(error)) from None
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}".strip()) from None
        log.info("%s Reason: %s", words, reason)
        self.stdout.write(words)
