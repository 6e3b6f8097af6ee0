"""`manage.py grant_staff --wallet 0x… [--revoke]`: who runs this registry."""

from __future__ import annotations

import logging
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity import changes
from inframind.identity.models import Wallet

log = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Make a wallet staff, or take that from it. Staff enter the admin portal by signing in "
        "with this wallet and showing a second factor, which they set up on their first way in."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", required=True, metavar="0x…")
        parser.add_argument("--revoke", action="store_true", help="take it away, at once")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wallet = Wallet.objects.of(options["wallet"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        is_staff = not options["revoke"]
        Wallet.objects.filter(pk=wallet.pk).update(is_staff=is_staff)
        changes.wallet_changed(wallet.pk)
        log.info("%s: is_staff=%s", wallet.pk, is_staff)
        self.stdout.write(f"{wallet.pk} is {'staff' if is_staff else 'not staff'}.")
