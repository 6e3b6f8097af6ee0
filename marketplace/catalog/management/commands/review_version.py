"""`manage.py review_version NAME@VERSION --approve|--refuse`: a verdict on publisher code."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import services
from marketplace.catalog.management.commands.verify_model import find_version
from marketplace.catalog.models import CodeReview


class Command(BaseCommand):
    help = "Record that publisher code was read, and whether it may run. Binds to the CID."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("version", metavar="NAME@VERSION")
        verdict = parser.add_mutually_exclusive_group(required=True)
        verdict.add_argument("--approve", action="store_true")
        verdict.add_argument("--refuse", action="store_true")
        parser.add_argument(
            "--reviewer", required=True, metavar="0x…", help="A wallet of staff or of a curator."
        )
        parser.add_argument("--note", default="", help="What was looked at; shown to the owner.")

    def handle(self, *args: Any, **options: Any) -> None:
        verdict = CodeReview.Verdict.APPROVED if options["approve"] else CodeReview.Verdict.REFUSED
        try:
            reviewer = Wallet.objects.get_by_natural_key(options["reviewer"])
            version = find_version(options["version"])
            services.review_code(
                version=version, reviewer=reviewer, verdict=verdict, note=options["note"]
            )
        except Wallet.DoesNotExist:
            raise CommandError(
                "No such wallet. Give the address of staff or of a curator."
            ) from None
        except ValueError as error:
            raise CommandError(str(error)) from None
        except Problem as problem:
            raise CommandError(f"{problem.detail} {problem.remedy}".strip()) from None
        self.stdout.write(f"{version} {version.cid} {verdict}")
