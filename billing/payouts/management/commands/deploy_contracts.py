"""`manage.py deploy_contracts`: bring IFM and Settlement onto a real chain, once ever."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from inframind.chain.client import ChainUnavailable, chain_at
from inframind.chain.deploy import DeploymentFailed, deploy
from inframind.lib.addresses import checksum_address
from inframind.lib.amounts import BASE_UNITS_PER_IFM, parse_ifm

_DAY_SECONDS: Final = 86_400


class Command(BaseCommand):
    help = (
        "Deploys IFM and Settlement on ETH_RPC_URL from the account of CHAIN_KEY, which has to "
        "have ETH for the gas, and prints the settings that name them. That account becomes the "
        "admin: hand it over in two steps afterwards."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--challenge-seconds", type=int, default=_DAY_SECONDS)
        parser.add_argument("--admin-delay-seconds", type=int, default=3 * _DAY_SECONDS)
        parser.add_argument("--daily-cap", default="100000 IFM", help="On all withdrawals.")
        parser.add_argument("--supply", default="1000000000 IFM")
        parser.add_argument(
            "--guardian", help="The address that may revoke roots and pause; not this key's."
        )
        parser.add_argument("--yes", action="store_true", help="Without it nothing is sent.")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.ETH_RPC_URL or not settings.CHAIN_KEY:
            raise CommandError("Set ETH_RPC_URL, CHAIN_ID and CHAIN_KEY in the environment first.")
        try:
            cap, supply = parse_ifm(options["daily_cap"]), parse_ifm(options["supply"])
            guardian = checksum_address(options["guardian"]) if options["guardian"] else None
        except ValueError as error:
            raise CommandError(str(error)) from None
        if min(options["challenge_seconds"], options["admin_delay_seconds"]) < 0:
            raise CommandError("Seconds are not negative.")
        try:
            chain_at(settings.ETH_RPC_URL, settings.CHAIN_ID).confirm_chain_id()
            if not options["yes"]:
                raise CommandError(
                    f"This deploys on chain {settings.CHAIN_ID}: a supply of "
                    f"{supply // BASE_UNITS_PER_IFM} IFM, {options['challenge_seconds']} s "
                    f"challenge time, guardian {guardian or 'the same key'}. Repeat it with --yes."
                )
            deployed = deploy(
                settings.ETH_RPC_URL,
                settings.CHAIN_KEY,
                challenge_seconds=options["challenge_seconds"],
                admin_delay_seconds=options["admin_delay_seconds"],
                daily_cap=cap,
                supply=supply,
                guardian=guardian,
            )
        except (ChainUnavailable, DeploymentFailed) as error:
            raise CommandError(f"Nothing more is sent: {error}.") from None
        self.stdout.write(f"IFM_ADDRESS={deployed.ifm}")
        self.stdout.write(f"SETTLEMENT_ADDRESS={deployed.settlement}")
        self.stdout.write(f"SETTLEMENT_BLOCK={deployed.block}")
