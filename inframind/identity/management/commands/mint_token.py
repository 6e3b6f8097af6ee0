"""`manage.py mint_token`: a token for a wallet, printed once on stdout."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token
from inframind.lib.amounts import parse_ifm
from inframind.lib.durations import parse_duration
from inframind.lib.problem import Problem
from inframind.lib.scopes import ACTIONS


class Command(BaseCommand):
    help = (
        "Mint a bearer token for a wallet. The token goes to stdout, once; nothing of it is stored."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", required=True, metavar="0x…")
        parser.add_argument("--name", default="minted by hand")
        parser.add_argument(
            "--action",
            action="append",
            choices=sorted(ACTIONS),
            dest="actions",
            help="may be given more than once; default: invoke",
        )
        parser.add_argument(
            "--model",
            action="append",
            dest="models_allowed",
            metavar="NAME",
            help="allow this model only; may be given more than once",
        )
        parser.add_argument(
            "--owned", action="store_true", help="allow the models that the wallet owns only"
        )
        parser.add_argument("--expires-in", default="24h", metavar="24h")
        parser.add_argument("--spend-limit", metavar='"5 IFM"')
        parser.add_argument("--calls-limit", type=int, metavar="100")
        parser.add_argument(
            "--ip-range",
            action="append",
            dest="ip_ranges",
            metavar="10.0.0.0/8",
            help="allow calls from here only; may be given more than once",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wallet = Wallet.objects.of(options["wallet"])
            lifetime = parse_duration(options["expires_in"])
            spend = options["spend_limit"]
            token, text = mint_token(
                wallet=wallet,
                name=options["name"],
                actions=options["actions"] or [Token.Action.INVOKE],
                model_scope=Token.ModelScope.OWNED if options["owned"] else None,
                models_allowed=options["models_allowed"] or [],
                lifetime=lifetime,
                spend_limit_base_units=None if spend is None else parse_ifm(spend),
                calls_limit=options["calls_limit"],
                ip_ranges=options["ip_ranges"] or [],
            )
        except ValueError as error:
            raise CommandError(str(error)) from None
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}") from None
        self.stdout.write(text)
        self.stderr.write(f"Token {token.pk} of {wallet.address}, until {token.expires_at:%F %TZ}.")
