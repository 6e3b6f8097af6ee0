"""What writing paid calls down costs beyond the bare insert of their rows, at batches of 16.

`python -m benchmarks recording`, with `DATABASE_URL` of a server: it works in a database of its
own. Both sides take turns over one connection, first one and then the other goes first, on the same
rows but for their ids; the bare side is the one `INSERT` of the rows, committed, and the other is
all that the gateway does: the open epoch, the leases' charges, the receipts' tree, its signature,
the rows, the commit. The bar is held against the median of the differences within pairs, which are
neighbours in time: what else the machine does falls on both. CPU is this process's alone; garbage
is collected as it is in the gateway, which leaves that to Python.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import django
import psycopg
from psycopg import sql

from inframind.lib import receipts

BATCH: Final = 16
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1000"))
WARM_UP: Final = 100
BAR_US: Final = 30.0
FEE: Final = 10**16
WALLETS: Final = 4


def main(out: Path) -> None:
    """Makes the database, measures in a process of its own there, and drops it again."""
    server = os.environ["DATABASE_URL"]
    name = f"bench_recording_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        url = urlsplit(server)._replace(path=f"/{name}").geturl()
        env = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"], env=env, check=True
        )
        subprocess.run(
            [sys.executable, "-m", "benchmarks.recording", "--here", str(out)], env=env, check=True
        )
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            drop = sql.SQL("DROP DATABASE {} WITH (FORCE)")
            connection.execute(drop.format(sql.Identifier(name)))


class Taken(NamedTuple):
    """What one side of a round took, or one of its parts, in seconds."""

    wall: float
    cpu: float


class Side(NamedTuple):
    """A column of the report: microseconds a call."""

    median_us: float
    lower_quartile_us: float


def measure(out: Path) -> None:
    """Measures in this process's database, prints a row for each side and part, writes
    `recording.json`; exits 1 above the bar."""
    from marketplace.gateway import loop

    rows = _rows()
    taken = loop.submit(_measured(rows), 3_600)
    loop.stop()
    pairs = list(zip(taken["bare"], taken["recorded"], strict=True))
    taken["beyond"] = [
        Taken(after.wall - before.wall, after.cpu - before.cpu) for before, after in pairs
    ]
    report: dict[str, Any] = {
        "benchmark": "recording",
        "batch": BATCH,
        "rounds": ROUNDS,
        "bar_us_per_call": BAR_US,
    }
    for name, each in taken.items():
        wall, cpu = _side([one.wall for one in each]), _side([one.cpu for one in each])
        report[name] = {"wall": wall._asdict(), "cpu": cpu._asdict()}
        print(
            f"recording   batch {BATCH}   {name:<9} {wall.median_us:>7.1f} µs a call "
            f"(lower quartile {wall.lower_quartile_us:>6.1f})   CPU of the client "
            f"{cpu.median_us:>6.1f} µs ({cpu.lower_quartile_us:>5.1f})",
            flush=True,
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "recording.json").write_text(json.dumps(report, indent=2) + "\n")
    beyond_us = report["beyond"]["wall"]["median_us"]
    bar = f"bar {BAR_US:.0f} µs" + ("" if beyond_us <= BAR_US else ", missed")
    print(f"recording   beyond the bare insert {beyond_us:.1f} µs a call   {bar}")


async def _measured(rows: list[Any]) -> dict[str, list[Taken]]:
    """What each batch took, bare and recorded, and the parts of another that was not written."""
    from billing.epochs.services import open_epoch_on
    from inframind.lib.ids import new_uuid7
    from marketplace.gateway import batches, committing, purses
    from marketplace.mesh import asyncdb

    async with asyncdb.connection() as database, database.transaction():
        epoch, version, at, _ = await open_epoch_on(database)
    purse = purses.Purses()
    of_batch: dict[str, Any] = {"epoch": epoch, "parameters_version": version, "at": at}

    def afresh() -> list[Any]:
        return [
            replace(row, call_id=new_uuid7(), salt=secrets.token_bytes(receipts.SALT_BYTES))
            for row in rows
        ]

    async def bare() -> Taken:
        fresh = afresh()
        watch = _watch()
        async with asyncdb.connection() as database:
            await database.execute(
                batches.INSERT_CALLS,
                {"rows": batches.as_json(fresh), "id": new_uuid7(), **of_batch},
                prepare=True,
            )
        return watch()

    async def recorded() -> Taken:
        funds = [await purse.take(row.wallet, FEE, 60.0) for row in rows]
        entries = [
            committing.Entry(row=row, lease_id=each.lease_id)
            for row, each in zip(afresh(), funds, strict=True)
        ]
        watch = _watch()
        fates = await committing.commit(entries)
        taken = watch()
        if set(fates) != {committing.Fate.WRITTEN}:
            raise SystemExit(f"A call was not recorded: {fates}")
        for each in funds:
            each.keep()
        return taken

    async def entering() -> Taken:
        watch = _watch()
        async with asyncdb.connection() as database, database.pipeline():
            await database.execute("BEGIN", prepare=True)
            await open_epoch_on(database, lock_seconds=committing.LOCK_SECONDS)
            await database.execute("COMMIT", prepare=True)
        return watch()

    async def sealing() -> Taken:
        fresh = afresh()
        watch = _watch()
        batches.sealed(new_uuid7(), fresh, **of_batch)
        return watch()

    async def as_json() -> Taken:
        fresh = afresh()
        watch = _watch()
        batches.as_json(fresh)
        return watch()

    sides = {
        "bare": bare,
        "recorded": recorded,
        "entering": entering,
        "sealing": sealing,
        "json": as_json,
    }
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for number in range(WARM_UP + ROUNDS):
        for name in (sides, reversed(sides))[number % 2]:
            one = await sides[name]()
            if number >= WARM_UP:
                taken[name].append(one)
    await purse.aclose()
    return taken


def _watch() -> Callable[[], Taken]:
    wall, cpu = time.perf_counter(), time.process_time()
    return lambda: Taken(time.perf_counter() - wall, time.process_time() - cpu)


def _side(seconds: list[float]) -> Side:
    each_us = [one * 1e6 / BATCH for one in seconds]
    lower_quartile_us, median_us, _ = statistics.quantiles(each_us, n=4)
    return Side(round(median_us, 1), round(lower_quartile_us, 1))


def _rows() -> list[Any]:
    """Served calls of four wallets that have been given what they spend here."""
    from billing.ledger.models import Reason
    from billing.ledger.services import Posting, post
    from inframind.identity.models import Wallet
    from inframind.lib.addresses import checksum_address
    from inframind.lib.ids import new_uuid7
    from marketplace.catalog.models import Model, Version
    from marketplace.gateway.batches import Row
    from marketplace.mesh.models import Node

    wallets = [checksum_address("0x" + secrets.token_hex(20)) for _ in range(WALLETS)]
    owner = Wallet.objects.of(wallets[0])
    model = Model.objects.create(name="bench", skeleton="bench", owner=owner)
    version = Version.objects.create(
        model=model,
        number="1.0.0",
        precedence="1",
        cid="bafybeibench",
        size_bytes=1,
        files=[],
        manifest={},
        description="What is written down.",
        license="MIT",
        task="other",
        runtime="onnx",
        stability="stable",
        published_by=owner,
        payout_address=owner.pk,
        fee_base_units=FEE,
    )
    node = Node.objects.create(name="bench", operator=owner, endpoint="http://127.0.0.1:1")
    post(
        [
            Posting(
                id=new_uuid7(),
                debit="chain",
                credit=f"wallet:{wallet}",
                amount_base_units=FEE * BATCH * (WARM_UP + ROUNDS + 100),
                reason=Reason.GRANT,
            )
            for wallet in wallets
        ]
    )
    return [
        Row(
            call_id=new_uuid7(),
            version_id=version.pk,
            model=str(version),
            cid=version.cid,
            wallet=wallets[index % WALLETS],
            token_id=None,
            node_id=node.pk,
            node_name=node.name,
            outcome="served",
            problem_code="",
            attempts=1,
            fee_base_units=FEE,
            latency_us=12_345,
            node_latency_us=9_876,
            input_digest=f"sha256:{secrets.token_hex(32)}",
            output_digest=f"sha256:{secrets.token_hex(32)}",
            payout_address=owner.pk,
            operator_address=owner.pk,
        )
        for index in range(BATCH)
    ]


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")
    django.setup()
    arguments = sys.argv[1:]
    if arguments[:1] == ["--here"]:
        measure(Path(arguments[1]))
    else:
        main(Path(__file__).resolve().parent.parent / "var" / "bench")
