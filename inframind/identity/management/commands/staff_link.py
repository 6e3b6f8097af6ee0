"""`manage.py staff_link`: make a wallet staff and print its one-time way into the admin."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from inframind.identity.entry import entry_keys
from inframind.identity.models import Wallet


class Command(BaseCommand):
    help = "Make a wallet staff and print a link into the admin: one use, five minutes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", required=True, metavar="0x…")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wallet = Wallet.objects.of(options["wallet"])
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not wallet.is_staff or not wallet.is_superuser:
            wallet.is_staff = wallet.is_superuser = True
            wallet.save(update_fields=["is_staff", "is_superuser"])
        where = reverse("staff-entry", args=[wallet.address, entry_keys.make_token(wallet)])
        self.stdout.write(f"{settings.SITE_URL}{where}")
