"""`manage.py revoke_token`: end a token at once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity.models import Token
from inframind.identity.services import revoke_token


class Command(BaseCommand):
    help = "Revoke a token by its id. Twice is once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("token_id", type=UUID)

    def handle(self, *args: Any, **options: Any) -> None:
        token = Token.objects.select_related("wallet").filter(pk=options["token_id"]).first()
        if token is None:
            raise CommandError(f"There is no token {options['token_id']}.")
        revoke_token(token_id=token.pk, wallet=token.wallet)
        self.stdout.write(f"Token {token.pk} of {token.wallet_id} is revoked.")
