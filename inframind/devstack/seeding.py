"""Real models for a demo: packages built from wheels, published, reviewed, verified and called.

Every figure that a page shows afterwards was measured: the calls made here are real ones.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import orjson
from django.conf import settings
from django.db.models import Count, Q

from curation.lists import services as lists
from inframind.devstack import demo
from inframind.devstack.funding import fund
from inframind.identity.caller import Caller
from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token
from inframind.lib.ids import new_uuid7
from marketplace.catalog import services as catalog
from marketplace.catalog.models import CodeReview, Model, Verification, Version
from marketplace.gateway import loop, pipeline
from marketplace.mesh import services as mesh

# The first accounts of the well-known development mnemonic: they hold nothing anywhere else.
PUBLISHER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
STAFF = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CALLER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
PINNED = {
    "summarizer-v1": "First model of the walk through the marketplace",
    "filetype-v1": "Agents ask it before they open a file",
}
CALLS_EACH = 24
VERIFY_DEADLINE_SECONDS = 300

Say = Callable[[str], None]


def seed(*, packages_dir: Path, say: Say) -> None:
    """Publish what is not yet there; a second run changes nothing and takes a moment."""
    mesh.sync_configured_nodes()
    mesh.probe_all()
    publisher = _wallet(PUBLISHER, "InfraMind Labs")
    staff = _wallet(STAFF, "Registry staff", is_staff=True)
    caller = _wallet(CALLER, "Demo caller")
    _fund(publisher, caller, say)
    names = []
    for package in demo.build(packages_dir):
        with _as_tar(package) as stream:
            registration = catalog.register(publisher=publisher, stream=stream)
        version = registration.version
        names.append(version.model_id)
        if registration.created:
            say(f"published {version}  {version.cid}")
        if version.runtime == Version.Runtime.PYTHON and not _reviewed(version.content_cid):
            catalog.review_code(
                version=version,
                reviewer=staff,
                verdict=CodeReview.Verdict.APPROVED,
                note="Read in full: no network, no files outside the package, bounded work.",
            )
            say(f"reviewed  {version}")
    _await_verification(say)
    for name, reason in PINNED.items():
        mesh.pin(model=Model.objects.get(pk=name), source="dao", reason=reason)
    mesh.place_pinned()
    _call_everything(names, say)
    lists.refresh()


def token_file(path: Path) -> None:
    """A fresh token for trying things out, in a file that only its owner reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wallet = Wallet.objects.get(pk=PUBLISHER)
    _, text = mint_token(
        wallet=wallet,
        name="demo",
        actions=[Token.Action.INVOKE, Token.Action.PUBLISH, Token.Action.MANAGE],
        lifetime=timedelta(days=30),
    )
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text + "\n")


def _wallet(address: str, display_name: str, *, is_staff: bool = False) -> Wallet:
    wallet = Wallet.objects.of(address)
    if wallet.display_name != display_name or wallet.is_staff != is_staff:
        wallet.display_name, wallet.is_staff = display_name, is_staff
        wallet.save()
    return wallet


def _fund(publisher: Wallet, caller: Wallet, say: Say) -> None:
    if settings.FAUCET:
        for wallet, account in ((publisher, 0), (caller, 2)):
            fund(wallet, account=account, say=say)
    else:
        say("There is no faucet here: paid models are not called until somebody deposits.")


def _reviewed(cid: str) -> bool:
    return CodeReview.objects.filter(cid=cid, verdict=CodeReview.Verdict.APPROVED).exists()


@contextmanager
def _as_tar(package: Path) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as spool:
        with tarfile.open(fileobj=spool, mode="w") as archive:
            for path in sorted(package.rglob("*")):
                if path.is_file():
                    archive.add(path, arcname=str(path.relative_to(package)), recursive=False)
        spool.seek(0)
        yield spool


def _await_verification(say: Say) -> None:
    """Verify what is due here and now; a worker beside us takes its share through the same rows."""
    deadline = time.monotonic() + VERIFY_DEADLINE_SECONDS
    open_states = [Verification.State.QUEUED, Verification.State.RUNNING]
    while Verification.objects.filter(state__in=open_states).exists():
        done = catalog.verify_next()
        if done is not None:
            outcome = f"{done.get_state_display().lower()}  {done.reason}".rstrip()
            say(f"verified  {done.version}: {outcome}")
        elif time.monotonic() > deadline:
            raise TimeoutError("Verification did not finish; see var/log/worker.log.")
        else:
            time.sleep(0.2)


def _call_everything(names: list[str], say: Say) -> None:
    counted = {
        row["name"]: row["calls"]
        for row in Model.objects.values("name").annotate(
            calls=Count("versions__calls", filter=Q(versions__calls__outcome="served"))
        )
    }
    caller = Caller(address=CALLER, actions=frozenset({"invoke"}))
    served = Version.State.ACTIVE, Version.State.POPULAR
    for version in Version.objects.filter(state__in=served, model__in=names):
        missing = CALLS_EACH - counted.get(version.model_id, 0)
        examples = version.manifest.get("examples") or []
        if missing <= 0 or not examples:
            continue
        for turn in range(missing):
            document = examples[turn % len(examples)]["input"]
            loop.submit(
                pipeline.call(
                    pipeline.CallRequest(
                        call_id=new_uuid7(),
                        name=version.model_id,
                        number=version.number,
                        body=orjson.dumps(document),
                        caller=caller,
                        budget_base_units=None,
                        remote_address="127.0.0.1",
                        deadline_seconds=60,
                    )
                ),
                timeout_seconds=90,
            )
        say(f"called    {version} {missing} times")
