"""A crashed marketplace from its first deposit to the last root: what drills have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from inframind.devstack.walk import MANIFEST, NAME, write_package
from tests.journeys import books
from tests.journeys.bank import IFM
from tests.journeys.callers import Callers
from tests.journeys.crashing import Crashing
from tests.journeys.market import PUBLISHER, tar_of

# The last one cannot pay for what it asks for: it lives at its floor.
DEPOSITS: Final = {
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC": 2_000 * IFM,
    "0x90F79bf6EB2c4f870365E785982E1f101E93b906": 2_000 * IFM,
    "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65": 2_000 * IFM,
    "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc": 1 * IFM,
}
SETTLED_SECONDS: Final = 300


def callers_of(crashing: Crashing, folder: Path, *, seed: str, epoch_seconds: int) -> Callers:
    """Callers with deposits, not started yet, and a model for them that costs 0.01 IFM."""
    _publish(crashing, folder, epoch_seconds)
    for wallet, amount in DEPOSITS.items():
        crashing.bank.deposit(wallet, amount)
    books.await_balances(crashing, DEPOSITS)
    minted = crashing.domain(
        "from django.core.management import call_command\n"
        + "".join(f"call_command('mint_token', '--wallet={each}')\n" for each in DEPOSITS)
    )
    tokens = dict(zip(DEPOSITS, minted.split(), strict=True))
    return Callers(crashing.urls, tokens, NAME, seed)


def settle(crashing: Crashing, callers: Callers) -> None:
    """Until every call with a key has its outcome, every epoch is closed, and the chain has it."""
    crashing.await_all()
    callers.settle(timeout_seconds=SETTLED_SECONDS)
    closed = crashing.manage("close_epoch")
    assert closed.status == 0, closed.stderr
    books.await_claimable(crashing, timeout_seconds=SETTLED_SECONDS)


def _publish(crashing: Crashing, folder: Path, epoch_seconds: int) -> None:
    """A model that costs 0.01 IFM, verified, and short epochs."""
    manifest = MANIFEST.replace("per_request_fee: 0 IFM", "per_request_fee: 0.01 IFM")
    package = tar_of(write_package(folder / NAME, manifest), folder / "model.tar")
    crashing.domain(
        "import time\n"
        "from billing.epochs import services as epochs\n"
        "from inframind.identity.models import Wallet\n"
        "from marketplace.catalog import services as catalog\n"
        "from marketplace.catalog.models import Version\n"
        "from marketplace.mesh import services as mesh\n"
        "mesh.sync_configured_nodes()\n"
        "mesh.probe_all()\n"
        f"with open({str(package)!r}, 'rb') as stream:\n"
        f"    catalog.register(publisher=Wallet.objects.of({PUBLISHER!r}), stream=stream)\n"
        "deadline = time.monotonic() + 90\n"
        "while not Version.objects.filter(state='active').exists():\n"
        "    assert time.monotonic() < deadline, Version.objects.get().state_reason\n"
        "    catalog.verify_next()\n"
        "    time.sleep(0.1)\n"
        f"epochs.change_parameters(by=None, reason='Often.', epoch_seconds={epoch_seconds})\n"
    )
    assert crashing.manage("close_epoch").status == 0
