"""`manage.py reset_second_factor --wallet 0x…`: for one who lost the app and all codes."""

from __future__ import annotations

import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity import second_factor
from inframind.identity.models import Wallet

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Remove a wallet's second factor and recovery codes. Make sure first that it is its owner "
        "who asks: whoever signs in with the wallet next can set up a new one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", required=True, metavar="0x…")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wallet = Wallet.objects.get_by_natural_key(options["wallet"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        except Wallet.DoesNotExist:
            raise CommandError("No such wallet has signed in here.") from None
        had = second_factor.remove(wallet=wallet)
        log.info("second factor of %s reset", wallet.pk)
        self.stdout.write(
            f"The second factor of {wallet.pk} is removed."
            if had
            else f"{wallet.pk} had no second factor."
        )
