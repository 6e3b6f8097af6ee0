"""What writing paid calls down costs beyond the bare insert of their rows, at batches of 16.

`python -m benchmarks recording`, with `DATABASE_URL` of a server: it works in a database of its
own. The sides take turns, first one and then the other goes first, on the same rows but for their
ids. The bare side is the one `INSERT` of the rows, committed, of a pool's connection, as anybody
would write them who does it well; the recorded one is all that the gateway does: the open epoch,
the leases' charges, the receipts' tree, its signature, the batch, the rows, the commit. `steps` is
the same for calls whose tokens have limits or that have idempotency keys, here without either. The
bar is held against the median of the differences within pairs, which are neighbours in time: what
else the machine does falls on both. CPU of the client is this process's alone, CPU of the server
that of its process for the connection; garbage is collected as it is in the gateway, which leaves
that to Python. `recorder` is the client's part of a call from its row to its fate, through the
recorder and beside the purse.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import django
import orjson
import psycopg
from psycopg import AsyncConnection, sql

from benchmarks import reports
from inframind.lib import receipts

BATCH: Final = 16
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "1000"))
WARM_UP: Final = 100
BAR_US: Final = 30.0
FEE: Final = 10**16
WALLETS: Final = 4
_COLUMNS: Final = (
    "call_id", "version_id", "wallet", "token_id", "node_id", "node_name", "outcome",
    "problem_code", "attempts", "latency_us", "node_latency_us", "input_digest", "output_digest",
    "payout_address", "operator_address", "linked",
)  # fmt: skip
_INSERT: Final = """
    INSERT INTO gateway_call (
        id, version_id, wallet_id, token_id, node_id, node_name, outcome, problem_code, attempts,
        fee_base_units, latency_us, node_latency_us, input_digest, output_digest, payout_address,
        operator_address, linked, salt, batch_index, batch_id, epoch, parameters_version, created_at
    )
    SELECT given.*, %(id)s, %(epoch)s, %(parameters_version)s, %(at)s
    FROM json_to_recordset(%(rows)s::json) AS given (
        call_id uuid, version_id uuid, wallet text, token_id uuid, node_id uuid, node_name text,
        outcome text, problem_code text, attempts int, fee_base_units numeric, latency_us bigint,
        node_latency_us bigint, input_digest text, output_digest text, payout_address text,
        operator_address text, linked boolean, salt bytea, batch_index int
    )
"""


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
    server: float = 0.0


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
    taken["beyond"] = [
        Taken(*(after[each] - before[each] for each in range(len(after))))
        for before, after in zip(taken["bare"], taken["recorded"], strict=True)
    ]
    report: dict[str, Any] = {
        "batch": BATCH,
        "rounds": ROUNDS,
        "bar_us_per_call": BAR_US,
    }
    for name, each in taken.items():
        wall, cpu, server = (_side(list(one)) for one in zip(*each, strict=True))
        report[name] = {
            "wall": wall._asdict(),
            "cpu": cpu._asdict(),
            "server": server._asdict(),
        }
        print(
            f"recording   batch {BATCH}   {name:<9} {wall.median_us:>7.1f} µs a call "
            f"(lower quartile {wall.lower_quartile_us:>6.1f})   CPU of the client "
            f"{cpu.median_us:>6.1f} µs ({cpu.lower_quartile_us:>5.1f})   of the server "
            f"{server.median_us:>6.1f} µs ({server.lower_quartile_us:>5.1f})",
            flush=True,
        )
    reports.write(out, "recording", **report)
    beyond_us = report["beyond"]["wall"]["median_us"]
    bar = f"bar {BAR_US:.0f} µs" + ("" if beyond_us <= BAR_US else ", missed")
    print(f"recording   beyond the bare insert {beyond_us:.1f} µs a call   {bar}")


async def _measured(rows: list[Any]) -> dict[str, list[Taken]]:
    """What each batch took, bare and recorded, and the parts of another that was not written."""
    from billing.epochs.services import open_epoch_on
    from inframind.lib.ids import new_uuid7
    from marketplace.gateway import batches, committing, lane, purses
    from marketplace.gateway.recorder import Recorder
    from marketplace.mesh import asyncdb

    async with asyncdb.connection() as database, database.transaction():
        epoch, version, at, _ = await open_epoch_on(database)
    purse, recorder = purses.Purses(), Recorder()

    def afresh() -> list[Any]:
        return [
            replace(row, call_id=new_uuid7(), salt=secrets.token_bytes(receipts.SALT_BYTES))
            for row in rows
        ]

    async def bare() -> Taken:
        fresh = afresh()
        watch = _watch()
        async with asyncdb.connection() as database:
            server = _process_of(database)
            before = _seconds_of(server)
            await database.execute(
                _INSERT,
                {
                    "rows": _as_json(fresh),
                    "id": new_uuid7(),
                    "epoch": epoch,
                    "parameters_version": version,
                    "at": at,
                },
                prepare=True,
            )
            of_server = _seconds_of(server) - before
        return watch()._replace(server=of_server)

    async def entries() -> tuple[list[Any], list[Any]]:
        funds = [await purse.take(row.wallet, FEE, 60.0) for row in rows]
        made = [
            committing.Entry(row=row, lease_id=each.lease_id)
            for row, each in zip(afresh(), funds, strict=True)
        ]
        return funds, made

    async def committed(write: Callable[[Any], Awaitable[Any]], server: Path | None) -> Taken:
        funds, made = await entries()
        watch = _watch(server)
        await write(made)
        taken = watch()
        for each in funds:
            each.keep()
        return taken

    async def commit(made: list[Any]) -> None:
        fates = await committing.commit(made)
        if set(fates) != {committing.Fate.WRITTEN}:
            raise SystemExit(f"A call was not recorded: {fates}")

    async def in_steps(made: list[Any]) -> None:
        await committing._write_in_steps(committing._Batch(made), lane.here())

    async def through_the_recorder(made: list[Any]) -> None:
        await asyncio.gather(*map(recorder.record, made))

    async def recorded() -> Taken:
        return await committed(commit, _process_of(lane.here()._connection))

    async def steps() -> Taken:
        return await committed(in_steps, None)

    async def through() -> Taken:
        return await committed(through_the_recorder, None)

    async def sealing() -> Taken:
        fresh = afresh()
        watch = _watch()
        batches.sealed(new_uuid7(), fresh, epoch=epoch, parameters_version=version, time_us=10**15)
        return watch()

    async def encoding() -> Taken:
        fresh = afresh()
        made = batches.sealed(
            new_uuid7(), fresh, epoch=epoch, parameters_version=version, time_us=10**15
        )
        watch = _watch()
        batches.parameters_of(made, fresh)
        return watch()

    sides = {
        "bare": bare,
        "recorded": recorded,
        "steps": steps,
        "recorder": through,
        "sealing": sealing,
        "encoding": encoding,
    }
    taken: dict[str, list[Taken]] = {name: [] for name in sides}
    for number in range(WARM_UP + ROUNDS):
        for name in (sides, reversed(sides))[number % 2]:
            one = await sides[name]()
            if number >= WARM_UP:
                taken[name].append(one)
    await purse.aclose()
    return taken


def _as_json(rows: list[Any]) -> str:
    """The rows as ``_INSERT`` takes them: the general adapter is slower with a list a column."""
    return orjson.dumps(
        [
            {name: getattr(row, name) for name in _COLUMNS}
            | {
                "fee_base_units": str(row.fee_base_units),
                "salt": f"\\x{row.salt.hex()}",
                "batch_index": index,
            }
            for index, row in enumerate(rows)
        ]
    ).decode()


def _watch(server: Path | None = None) -> Callable[[], Taken]:
    of_server = _seconds_of(server)
    wall, cpu = time.perf_counter(), time.process_time()

    def read() -> Taken:
        taken = time.perf_counter() - wall, time.process_time() - cpu
        return Taken(*taken, _seconds_of(server) - of_server)

    return read


def _process_of(database: AsyncConnection | None) -> Path | None:
    if database is None:
        return None
    found = Path(f"/proc/{database.info.backend_pid}/schedstat")
    return found if found.exists() else None


def _seconds_of(server: Path | None) -> float:
    """CPU time of a process of the database's; 0 where that runs on another machine."""
    return int(server.read_text().split()[0]) / 1e9 if server is not None else 0.0


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
