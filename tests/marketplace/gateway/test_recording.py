"""How calls are written down: together, durably, and each at its own risk."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import F

from billing.epochs import closing, services
from billing.epochs.services import open_epoch_on
from billing.ledger import leases
from billing.ledger.models import Lease
from inframind.identity.models import Meter, MeterHold, Wallet
from inframind.identity.queries import authenticate
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from marketplace.catalog.models import Version
from marketplace.gateway import batches, committing, keyed, lane, loop
from marketplace.gateway.committing import Entry
from marketplace.gateway.models import Batch, Call, KeyedCall
from marketplace.gateway.recorder import FundsGone, Recorder
from marketplace.mesh import asyncdb

from ..mesh.serving import fresh_name, list_doubler
from . import money
from .money import FEE, GUEST

OTHER = "0x4444444444444444444444444444444444444444"
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def version(transactional_db: None) -> Iterator[Version]:
    Wallet.objects.of(GUEST)
    yield list_doubler(fresh_name("doubler"))
    loop.stop()


@pytest.fixture(params=["in steps", "in one go"])
def either_way(version: Version, request: pytest.FixtureRequest) -> Version:
    """The version, once for each way that a batch goes; the second as after a first batch."""
    if request.param == "in one go":
        loop.submit(learned(), 20)
    return version


async def learned(**wrong: Any) -> None:
    """Has the lane know what the database would say, but for what is wrong."""
    async with asyncdb.connection() as database, database.transaction():
        entered = await open_epoch_on(database)
    known = {
        "epoch": entered.number,
        "parameters_version": entered.parameters_version,
        "time_us": batches.microseconds(entered.at),
    }
    lane.here().learn(**{**known, **wrong})


def row_of(version: Version, **wish: Any) -> batches.Row:
    given: dict[str, Any] = {
        "call_id": new_uuid7(),
        "version_id": version.pk,
        "model": str(version),
        "cid": version.cid,
        "wallet": GUEST,
        "token_id": None,
        "node_id": None,
        "node_name": "node-a",
        "outcome": "served",
        "problem_code": "",
        "attempts": 1,
        "fee_base_units": FEE,
        "latency_us": 1000,
        "node_latency_us": 500,
        "input_digest": DIGEST,
        "output_digest": DIGEST,
        "payout_address": version.payout_address,
        "operator_address": version.payout_address,
    }
    return batches.Row(**{**given, **wish})


async def lease(wallet: str, calls: int) -> leases.Lease:
    async with asyncdb.connection() as database:
        return await leases.take_on(
            database,
            wallet=wallet,
            process="test",
            fee_base_units=FEE,
            calls=calls,
            waiting=calls,
            ttl_seconds=60,
        )


def leased(wallet: str, calls: int) -> leases.Lease:
    return loop.submit(lease(wallet, calls), 20)


def recorded(*entries: Entry) -> list[Problem | None]:
    """Records the calls at once; what each was refused with."""

    async def run() -> list[Any]:
        recorder = Recorder()
        calls = (recorder.record(each) for each in entries)
        return list(await asyncio.gather(*calls, return_exceptions=True))

    found = loop.submit(run(), 60)
    assert all(each is None or isinstance(each, Problem) for each in found), found
    return found


def codes(problems: list[Problem | None]) -> list[tuple[str, bool | None] | None]:
    return [None if each is None else (each.code, each.charged) for each in problems]


NOT_CHARGED = ("not-recorded", False)


def test_what_gathers_while_a_commit_runs_goes_into_one_batch(either_way: Version) -> None:
    entries = [Entry(row_of(either_way, fee_base_units=0)) for _ in range(40)]
    assert recorded(*entries) == [None] * 40
    assert Batch.objects.count() == 1
    assert [row.batch_index for row in Call.objects.order_by("batch_index")] == list(range(40))
    [batch] = Batch.objects.all()
    [at] = set(Call.objects.values_list("created_at", flat=True))
    assert batches.microseconds(at) == batch.time_us


def test_a_lease_that_is_gone_refuses_its_own_calls_and_no_others(either_way: Version) -> None:
    money.fund(GUEST, 10 * FEE)
    money.fund(OTHER, 10 * FEE)
    gone, live = leased(GUEST, 2), leased(OTHER, 2)
    Lease.objects.filter(pk=gone.id).update(expires_at=F("expires_at") - timedelta(hours=1))
    mine, theirs = row_of(either_way), row_of(either_way, wallet=OTHER)

    problems = recorded(Entry(mine, lease_id=gone.id), Entry(theirs, lease_id=live.id))

    assert codes(problems) == [NOT_CHARGED, None]
    assert isinstance(problems[0], FundsGone)
    assert problems[0].lease_gone
    refused, served = Call.objects.get(pk=mine.call_id), Call.objects.get(pk=theirs.call_id)
    assert (refused.outcome, int(refused.fee_base_units)) == ("refused", 0)
    assert (refused.problem_code, refused.output_digest) == ("not-recorded", "")
    assert (served.outcome, int(served.fee_base_units)) == ("served", FEE)
    assert refused.batch_id == served.batch_id
    assert (money.balance(GUEST), money.balance(OTHER)) == (10 * FEE, 9 * FEE)


def test_a_lease_is_never_charged_more_than_it_has(either_way: Version) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    entries = [Entry(row_of(either_way), lease_id=taken.id) for _ in range(3)]
    assert codes(recorded(*entries)) == [NOT_CHARGED] * 3
    assert codes(recorded(*(Entry(row_of(either_way), lease_id=taken.id) for _ in range(2)))) == [
        None,
        None,
    ]
    assert money.balance() == 8 * FEE


def test_a_fee_without_a_lease_is_not_charged_and_not_served(either_way: Version) -> None:
    money.fund(GUEST, 10 * FEE)
    assert codes(recorded(Entry(row_of(either_way)))) == [NOT_CHARGED]
    assert (money.spent(), money.balance()) == (0, 10 * FEE)


def test_a_place_that_is_gone_refuses_its_own_call_and_charges_it_nothing(
    version: Version,
) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    caller = authenticate(money.token_of(calls_limit=9))
    with_place, without = row_of(version), row_of(version)
    MeterHold.objects.create(
        meter_id=caller.meters[0],
        call_id=with_place.call_id,
        fee_base_units=FEE,
        expires_at="2100-01-01T00:00Z",
    )

    problems = recorded(
        Entry(with_place, lease_id=taken.id, meters=caller.meters),
        Entry(without, lease_id=taken.id, meters=caller.meters),
    )

    assert codes(problems) == [None, NOT_CHARGED]
    assert not getattr(problems[1], "lease_gone", True)
    assert Meter.objects.get().calls_used == 1
    assert MeterHold.objects.count() == 0
    assert money.balance() == 9 * FEE


def test_a_key_that_was_lost_to_another_call_refuses_its_call(version: Version) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    row = row_of(version)
    claim = keyed.Claim(GUEST, "0" * 64, row.call_id, "key")
    entry = Entry(row, lease_id=taken.id, claim=claim, answer=b"sealed")
    assert codes(recorded(entry)) == [NOT_CHARGED]
    assert (KeyedCall.objects.count(), money.balance()) == (0, 10 * FEE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"node_name": "\x00"},
        {"latency_us": -1},
        {"wallet": "0x5555555555555555555555555555555555555555"},
        {"outcome": "served", "output_digest": ""},
        {"latency_us": 2**70},
        {"input_digest": "sha256:0"},
    ],
)
def test_a_row_that_cannot_be_written_fails_alone(either_way: Version, wrong: Any) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 4)
    good = [Entry(row_of(either_way), lease_id=taken.id) for _ in range(3)]
    bad = Entry(row_of(either_way, **wrong), lease_id=taken.id)

    assert codes(recorded(good[0], bad, *good[1:])) == [None, NOT_CHARGED, None, None]

    assert money.spent() == 3 * FEE
    assert money.balance() == 7 * FEE
    assert Batch.objects.count() == 3


@contextmanager
def lost(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool, times: int = 1) -> Iterator[None]:
    """Ends the database's side of the connection while a batch is committed, so many times."""
    write, left = committing._write, [times]

    async def cut(batch: Any) -> None:
        if not left[0]:
            await write(batch)
            return
        left[0] -= 1
        if after_commit:
            await write(batch)
        else:
            batch.sent = True
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(committing, "_write", cut)
    yield
    monkeypatch.setattr(committing, "_write", write)


@pytest.mark.parametrize("after_commit", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_that_got_lost_is_found_or_made_and_charged_once(
    either_way: Version, monkeypatch: pytest.MonkeyPatch, after_commit: bool, times: int
) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    caller = authenticate(money.token_of(calls_limit=9))
    entries = [Entry(row_of(either_way), lease_id=taken.id, meters=caller.meters) for _ in range(2)]
    for each in entries:
        MeterHold.objects.create(
            meter_id=caller.meters[0],
            call_id=each.row.call_id,
            fee_base_units=FEE,
            expires_at="2100-01-01T00:00Z",
        )
    with lost(monkeypatch, after_commit=after_commit, times=times):
        assert recorded(*entries) == [None, None]
    assert (Batch.objects.count(), Call.objects.count()) == (1, 2)
    assert (money.spent(), money.balance()) == (2 * FEE, 8 * FEE)
    assert Meter.objects.get().calls_used == 2


def test_a_database_that_stays_silent_leaves_it_unknown_and_says_so(
    either_way: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "RETRY_SECONDS", 0.3)
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    paid, free = row_of(either_way), row_of(either_way, fee_base_units=0)
    with lost(monkeypatch, after_commit=False, times=1000):
        problems = recorded(Entry(paid, lease_id=taken.id), Entry(free))
    assert codes(problems) == [("not-recorded", None), NOT_CHARGED]
    assert problems[0] is not None
    assert problems[0].as_document()["charged"] is None
    assert "receipt" in problems[0].detail


def test_a_call_that_waits_for_a_lock_holds_up_no_other_for_long(
    either_way: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "RETRY_SECONDS", 1.0)
    money.fund(GUEST, 10 * FEE)
    money.fund(OTHER, 10 * FEE)
    mine, theirs = leased(GUEST, 2), leased(OTHER, 2)
    parameters = connection.get_connection_params()
    parameters = {
        name: parameters[name]
        for name in ("dbname", "user", "password", "host", "port")
        if name in parameters
    }
    with psycopg.connect(**parameters) as other:
        other.execute("SELECT FROM ledger_lease WHERE id = %s FOR UPDATE", [mine.id])
        problems = recorded(
            Entry(row_of(either_way), lease_id=mine.id),
            Entry(row_of(either_way, wallet=OTHER), lease_id=theirs.id),
        )
    assert codes(problems) == [NOT_CHARGED, None]
    assert (money.balance(GUEST), money.balance(OTHER)) == (10 * FEE, 9 * FEE)


def test_the_first_call_opens_the_first_epoch(version: Version) -> None:
    assert recorded(Entry(row_of(version, fee_base_units=0))) == [None]
    row = Call.objects.get()
    assert (row.epoch, row.parameters_version) == (1, 1)
    partition = money.rows("SELECT tableoid::regclass::text FROM gateway_call")
    assert partition == [("gateway_call_1",)]


def only_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async def steps(*_: Any) -> None:
        raise AssertionError("The batch went the long way.")

    monkeypatch.setattr(committing, "_write_in_steps", steps)


def test_what_the_database_would_say_is_not_asked_for_again(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 4)
    missed = [new_uuid7(), new_uuid7()]
    first = Entry(row_of(version), lease_id=taken.id)
    second = Entry(row_of(version, missed_nodes=missed), lease_id=taken.id)
    free = Entry(row_of(version, fee_base_units=0, wallet=None))
    assert recorded(first) == [None]
    only_in_one_go(monkeypatch)

    assert recorded(second, free) == [None, None]

    rows = {row.pk: row for row in Call.objects.all()}
    assert rows[second.row.call_id].missed_nodes == missed
    assert rows[free.row.call_id].missed_nodes == []
    assert [rows[each.row.call_id].batch_index for each in (second, free)] == [0, 1]
    assert (money.spent(), money.balance()) == (2 * FEE, 8 * FEE)
    earlier, later = Batch.objects.order_by("time_us")
    [at] = set(Call.objects.filter(batch_id=later.pk).values_list("created_at", flat=True))
    assert batches.microseconds(at) == later.time_us > earlier.time_us
    assert at < money.rows("SELECT statement_timestamp()")[0][0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": 7},
        {"parameters_version": 7},
        {"time_us": 0},
        {"time_us": 2**51},
    ],
)
def test_what_is_guessed_wrong_is_found_out_and_charged_once(
    version: Version, wrong: dict[str, int]
) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    loop.submit(learned(**wrong), 20)
    assert recorded(*(Entry(row_of(version), lease_id=taken.id) for _ in range(2))) == [None, None]
    [batch] = Batch.objects.all()
    now = money.rows("SELECT statement_timestamp()")[0][0]
    for row in Call.objects.all():
        assert (row.epoch, row.parameters_version, row.batch_id) == (1, 1, batch.pk)
        assert timedelta() < now - row.created_at < timedelta(minutes=1)
    assert (money.spent(), money.balance()) == (2 * FEE, 8 * FEE)


def test_after_an_epoch_was_closed_calls_are_of_the_next_one(version: Version) -> None:
    entries = [Entry(row_of(version, fee_base_units=0)) for _ in range(3)]
    assert recorded(entries[0]) == [None]
    closing.shut(services.current().number)
    assert recorded(entries[1]) == [None]
    services.change_parameters(by=None, reason="Shorter.", epoch_seconds=60)
    assert recorded(entries[2]) == [None]
    found = {row.pk: (row.epoch, row.parameters_version) for row in Call.objects.all()}
    assert [found[each.row.call_id] for each in entries] == [(1, 1), (2, 1), (2, 2)]


def backend() -> int:
    connected = lane.here()._connection
    assert connected is not None
    return connected.info.backend_pid


async def backend_there() -> int:
    await lane.here().open()
    return backend()


def test_a_connection_that_ended_while_nothing_was_written_is_opened_again(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.submit(learned(), 20)
    first = loop.submit(backend_there(), 20)
    money.rows("SELECT pg_terminate_backend(%s, 5000)", [first])
    only_in_one_go(monkeypatch)
    assert recorded(Entry(row_of(version, fee_base_units=0))) == [None]
    assert loop.submit(backend_there(), 20) != first
    assert (Batch.objects.count(), Call.objects.count()) == (1, 1)


def test_a_connection_that_ends_while_a_batch_is_written_charges_it_once(
    version: Version,
) -> None:
    money.fund(GUEST, 10 * FEE)
    taken = leased(GUEST, 2)
    loop.submit(learned(), 20)
    pid = loop.submit(backend_there(), 20)
    parameters = connection.get_connection_params()
    names = ("dbname", "user", "password", "host", "port")
    entries = [Entry(row_of(version), lease_id=taken.id) for _ in range(2)]

    async def cut() -> list[Any]:
        recorder = Recorder()
        writing = asyncio.gather(*(recorder.record(each) for each in entries))
        other = await psycopg.AsyncConnection.connect(
            **{name: parameters[name] for name in names if name in parameters}
        )
        async with other:
            await other.execute("SELECT FROM ledger_lease WHERE id = %s FOR UPDATE", [taken.id])
            await asyncio.sleep(0.1)
            await other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        return await writing

    assert loop.submit(cut(), 60) == [None, None]
    assert (Batch.objects.count(), Call.objects.count()) == (1, 2)
    assert (money.spent(), money.balance()) == (2 * FEE, 8 * FEE)


def test_a_batch_that_is_larger_than_what_the_socket_takes_at_once_is_written(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.submit(learned(), 20)
    only_in_one_go(monkeypatch)
    missed = [new_uuid7() for _ in range(100)]
    entries = [Entry(row_of(version, fee_base_units=0, missed_nodes=missed)) for _ in range(256)]
    assert recorded(*entries) == [None] * 256
    assert Batch.objects.get().count == Call.objects.count() == 256
