"""Closing an epoch of 1,000,000 receipts to 10,000 payees: seconds for each step.

`python -m benchmarks.closing`, with `DATABASE_URL` of a server: receipts are made in a database of
their own, signed in batches of 16 as the gateway signs them, and closed by the real services.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import django
import psycopg
from psycopg import sql

from benchmarks import reports

if TYPE_CHECKING:
    from marketplace.gateway.batches import Row, Sealed

_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
RECEIPTS = int(os.environ.get("BENCH_RECEIPTS", "1000000"))
PAYEES = int(os.environ.get("BENCH_PAYEES", "10000"))
WALLETS = 1_000
BATCH: Final = 16
_COLUMNS: Final = (
    "version_id", "wallet", "token_id", "node_id", "node_name", "outcome", "problem_code",
    "attempts", "latency_us", "node_latency_us", "input_digest", "output_digest",
    "payout_address", "operator_address", "linked", "salt",
)  # fmt: skip
_CALLS: Final = (
    "COPY gateway_call (id, version_id, wallet_id, token_id, node_id, node_name, outcome,"
    " problem_code, attempts, latency_us, node_latency_us, input_digest, output_digest,"
    " payout_address, operator_address, linked, salt, fee_base_units, batch_index, batch_id,"
    " epoch, parameters_version, created_at) FROM STDIN"
)
_BATCHES: Final = (
    "COPY gateway_batch (id, epoch, root, leaves, count, fees_base_units, time_us, signer,"
    " signature) FROM STDIN"
)


@dataclass(frozen=True)
class Listed:
    """A version that is called: its id, reference, CID, and who is paid."""

    id: uuid.UUID
    reference: str
    cid: str
    payout_address: str


def main(out: Path) -> None:
    """Makes the database, measures in a process of its own there, and drops it again."""
    server = os.environ["DATABASE_URL"]
    name = f"bench_closing_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        with tempfile.TemporaryDirectory() as store:
            env = {
                **os.environ,
                "DATABASE_URL": urlsplit(server)._replace(path=f"/{name}").geturl(),
                "STORE_DIR": store,
                "IPFS_API": "",
                "LOG_LEVEL": "WARNING",
            }
            manage = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(manage, env=env, check=True)
            command = [sys.executable, "-m", "benchmarks.closing", "--here", str(out)]
            subprocess.run(command, env=env, check=True)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


def measure(out: Path) -> None:
    """Fills this process's database, closes the epoch, prints a table, writes `closing.json`."""
    from billing.epochs import closing, queries

    started = time.perf_counter()
    number = fill(receipts=RECEIPTS, payees=PAYEES, wallets=WALLETS)
    _print("made and signed, not counted", time.perf_counter() - started)
    seconds: dict[str, float] = {}
    for step in closing.STEPS:
        started = time.perf_counter()
        step(number, True)
        seconds[step.__name__] = time.perf_counter() - started
        _print(step.__name__, seconds[step.__name__])
    total = sum(seconds.values())
    summary, epoch = queries.summary_of(number), queries.epoch(number)
    _print("together", total)
    print(
        f"{epoch.receipt_count:,} receipts in {epoch.batch_count:,} batches, {summary.payees:,} "
        f"payees, {epoch.leaf_count:,} leaves, {epoch.state}, sums "
        f"{'hold' if summary.adds_up else 'DIFFER'}"
    )
    reports.write(
        out,
        "closing",
        receipts=epoch.receipt_count,
        payees=summary.payees,
        rows=[{"step": name, "seconds": round(each, 2)} for name, each in seconds.items()],
        total_s=round(total, 1),
    )
    if not summary.adds_up or epoch.state != "sealed":
        raise SystemExit("The epoch does not add up.")


def fill(*, receipts: int, payees: int, wallets: int, seed: int = 1) -> int:
    """Writes an epoch of served calls as the gateway would have; returns its number.

    Half of the payees own a model each, the other half run a node each; wallets pay at random and
    have been given what they need.
    """
    from django.db import connection, transaction

    from billing.epochs import services
    from inframind.lib.addresses import checksum_address

    chance = random.Random(seed)

    def address() -> str:
        return checksum_address("0x" + chance.randbytes(20).hex())

    owners = [address() for _ in range(payees // 2)]
    operators = [address() for _ in range(payees - len(owners))]
    payers = [address() for _ in range(wallets)]
    epoch = services.current()
    with transaction.atomic():
        listed = _publish(owners)
        spent = dict.fromkeys(payers, 0)
        batches = list(_calls(chance, receipts, listed, operators, payers, spent))
        _fund(spent)
        with connection.cursor() as cursor:
            with cursor.copy(_BATCHES) as copy:
                for each, _ in batches:
                    copy.write_row(
                        [getattr(each, name)
                         for name in ("id", "epoch", "root", "leaves", "count", "fees_base_units",
                                      "time_us", "signer", "signature")]
                    )  # fmt: skip
            with cursor.copy(_CALLS) as copy:
                for each, rows in batches:
                    for index, row in enumerate(rows):
                        copy.write_row(
                            (row.call_id, *(getattr(row, name) for name in _COLUMNS),
                             row.fee_base_units, index, each.id, each.epoch,
                             each.parameters_version,
                             _UNIX_EPOCH + timedelta(microseconds=each.time_us))
                        )  # fmt: skip
            # What the wallets' leases have spent, when all of them have ended.
            cursor.executemany(
                "UPDATE ledger_account SET charged_base_units = %s WHERE code = %s",
                [(fees, f"wallet:{wallet}") for wallet, fees in spent.items()],
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return epoch.number


def _publish(owners: list[str]) -> list[Listed]:
    from inframind.identity.models import Wallet
    from marketplace.catalog.models import Model, Version

    Wallet.objects.bulk_create([Wallet(address=each) for each in owners], ignore_conflicts=True)
    names = [f"bench-{uuid.uuid4().hex}" for _ in owners]
    Model.objects.bulk_create(
        [
            Model(name=name, skeleton=name, owner_id=owner)
            for name, owner in zip(names, owners, strict=True)
        ],
        batch_size=1_000,
    )
    versions = [
        Version(
            model_id=name,
            number="1.0.0",
            precedence="1",
            cid="bafkrei" + name[6:],
            content_cid="bafkrei" + name[6:],
            size_bytes=1,
            files=[],
            manifest={},
            runtime=Version.Runtime.ONNX,
            stability=Version.Stability.STABLE,
            state=Version.State.ACTIVE,
            published_by_id=owner,
            payout_address=owner,
        )
        for name, owner in zip(names, owners, strict=True)
    ]
    Version.objects.bulk_create(versions, batch_size=1_000)
    return [
        Listed(each.id, f"{each.model_id}@{each.number}", each.cid, each.payout_address)
        for each in versions
    ]


def _calls(
    chance: random.Random,
    receipts: int,
    listed: list[Listed],
    operators: list[str],
    payers: list[str],
    spent: dict[str, int],
) -> Iterator[tuple[Sealed, list[Row]]]:
    """Signed batches with the rows of their calls; adds to what each payer has spent."""
    from billing.epochs import opening, services
    from marketplace.gateway import batches

    epoch = services.current()
    version = opening.latest_parameters().version
    time_us = batches.microseconds(opening.database_time())
    made = 0
    while made < receipts:
        rows = []
        for number in range(made, min(made + BATCH, receipts)):
            called, operator = listed[number % len(listed)], number % len(operators)
            payer, fee = chance.choice(payers), chance.randrange(1, 10**18)
            spent[payer] += fee
            rows.append(
                batches.Row(
                    call_id=uuid.UUID(int=chance.getrandbits(128)),
                    version_id=called.id,
                    model=called.reference,
                    cid=called.cid,
                    wallet=payer,
                    token_id=None,
                    node_id=None,
                    node_name=f"bench-{operator}",
                    outcome="served",
                    problem_code="",
                    attempts=1,
                    fee_base_units=fee,
                    latency_us=number,
                    node_latency_us=1,
                    input_digest=f"sha256:{number:064x}",
                    output_digest=f"sha256:{number:064x}",
                    payout_address=called.payout_address,
                    operator_address=operators[operator],
                )
            )
        made += len(rows)
        batch_id = uuid.UUID(int=chance.getrandbits(128))
        sealed = batches.sealed(
            batch_id, rows, epoch=epoch.number, parameters_version=version, time_us=time_us
        )
        yield sealed, rows


def _fund(spent: dict[str, int]) -> None:
    from billing.ledger.models import Reason
    from billing.ledger.services import Posting, post, transfer_id

    post(
        [
            Posting(
                transfer_id("bench", wallet), "chain", f"wallet:{wallet}", fees + 1, Reason.DEPOSIT
            )
            for wallet, fees in spent.items()
            if fees
        ]
    )


def _print(what: str, seconds: float) -> None:
    print(f"{what:<30} {seconds:>8.2f} s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    target = Path(sys.argv[-1]) if len(sys.argv) > 1 else Path("var") / "bench"
    if "--here" in sys.argv:
        django.setup()
        measure(target)
    else:
        main(target)
