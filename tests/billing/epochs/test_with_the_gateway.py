"""Closing on the gateway's own receipts: rows of calls, signed batches, partitions."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from django.conf import settings as configured
from django.db import connection
from pytest_django import Settings

from benchmarks.closing import fill
from billing.epochs import queries, reconciliation, services, sources
from billing.epochs.models import Epoch, Line
from billing.ledger import reconciliation as ledger
from billing.ledger.models import Account
from inframind.lib import receipts, rewards, secp256k1
from inframind.lib.merkle import Tree
from inframind.storage import dumps
from marketplace.gateway.models import Batch, Call

pytestmark = pytest.mark.django_db


def documents(cid: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in b"".join(dumps.read(cid)).splitlines()]


def test_an_epoch_of_calls_is_closed_and_anyone_can_check_it() -> None:
    number = fill(receipts=500, payees=20, wallets=7)
    unposted = sources.receipts().unposted()
    assert list(ledger.differences(unposted)) == []
    epoch = services.close(at_once=True)
    revenue = sum(int(fee) for fee in Call.objects.values_list("fee_base_units", flat=True))
    assert (epoch.number, epoch.receipt_count, int(epoch.revenue_base_units)) == (
        number,
        500,
        revenue,
    )
    summary = queries.summary_of(number)
    assert summary.adds_up
    assert (summary.payees, summary.lines, epoch.leaf_count) == (20, 20, 20)
    assert sources.receipts().unposted() == {}
    assert list(ledger.differences({})) == []
    assert list(reconciliation.differences()) == []
    # The tree, as `infra rewards verify` sees it.
    tree = rewards.Dump.parse(json.loads(b"".join(dumps.read(epoch.tree_cid))))
    assert list(rewards.flaws(tree, None)) == []
    assert tree.revenue == revenue
    # The receipts, as `infra receipt verify` sees them.
    header, *batches = documents(epoch.receipts_cid)
    signer = secp256k1.address_of_key(
        receipts.signing_key(configured.GATEWAY_KEY, configured.SECRET_KEY)
    )
    assert header["signer"] == signer
    roots = []
    for batch in batches:
        told = [
            receipts.leaf(UUID(id), int(fee), bytes.fromhex(committed[2:]))
            for id, fee, committed in batch["receipts"]  # type: ignore[attr-defined]
        ]
        root, count, fees = Tree.of(told).root, len(told), int(str(batch["fees"]))
        assert batch["root"] == "0x" + root.hex()
        digest = receipts.batch_digest(
            root=root,
            epoch=number,
            count=count,
            fees_base_units=fees,
            time_us=int(str(batch["time"])),
            chain_id=configured.CHAIN_ID,
        )
        signature = bytes.fromhex(str(batch["signature"])[2:])
        assert secp256k1.recover(digest, signature) == signer == batch["signer"]
        roots.append(receipts.epoch_leaf(root, count, fees))
    assert Tree.of(roots).root == bytes(epoch.receipts_root or b"")
    assert header["root"] == "0x" + bytes(epoch.receipts_root or b"").hex()


def test_what_is_charged_is_posted_and_balances_stay_as_they_were() -> None:
    fill(receipts=200, payees=6, wallets=3)

    def balances() -> dict[str, int]:
        return {
            account.code: int(account.posted_base_units - account.charged_base_units)
            for account in Account.objects.filter(kind="wallet")
        }

    before = balances()
    services.close(at_once=True)
    assert balances() == before == dict.fromkeys(before, 1)
    assert {int(each) for each in Account.objects.values_list("charged_base_units", flat=True)} == {
        0
    }


def test_a_second_epoch_has_a_partition_of_its_own() -> None:
    fill(receipts=50, payees=4, wallets=2)
    services.close(at_once=True)
    fill(receipts=70, payees=4, wallets=2, seed=2)
    services.close(at_once=True)
    services.close(at_once=True)
    assert list(queries.epochs().values_list("number", "receipt_count").order_by("number")) == [
        (1, 50),
        (2, 70),
        (3, 0),
        (4, 0),
    ]
    assert list(reconciliation.differences()) == []
    assert Line.objects.filter(epoch=2).count() == 4


def test_a_call_whose_row_was_changed_keeps_its_epoch_closing() -> None:
    number = fill(receipts=40, payees=4, wallets=2)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE gateway_call SET fee_base_units = fee_base_units + 1 WHERE id ="
            " (SELECT id FROM gateway_call LIMIT 1)"
        )
    services.current()
    Epoch.objects.update(ends_at=queries.epoch(number).opened_at)
    assert services.close_due() == services.Closed((), (number,))
    assert not Line.objects.exists()


def test_a_call_whose_row_was_changed_after_sealing_is_named_among_all_else() -> None:
    number = fill(receipts=40, payees=4, wallets=2)
    services.close(at_once=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE gateway_call SET latency_us = latency_us + 1 WHERE id ="
            " (SELECT id FROM gateway_call LIMIT 1) RETURNING id"
        )
        [(call,)] = cursor.fetchall()
    found = [str(each) for each in reconciliation.differences()]
    assert [each for each in found if str(call) in each and f"epoch {number}" in each]


def test_a_batch_that_is_not_the_one_that_was_published_is_named() -> None:
    number = fill(receipts=40, payees=4, wallets=2)
    services.close(at_once=True)
    batch = Batch.objects.earliest("time_us")
    Batch.objects.filter(pk=batch.pk).update(root=b"r" * 32)
    found = [str(each) for each in reconciliation.differences()]
    assert found == [f"epoch {number}: roots of its receipts that are not as published is 1, "
                     "and should be 0"]  # fmt: skip


def test_old_calls_leave_with_their_partition_and_their_dump_stays(settings: Settings) -> None:
    settings.RECEIPT_EPOCHS_KEPT = 1
    fill(receipts=60, payees=4, wallets=2)
    first = services.close(at_once=True)
    fill(receipts=20, payees=4, wallets=2, seed=2)
    services.close(at_once=True)
    # A table with checks that wait for the end of a transaction, like this test's, is not dropped.
    connection.check_constraints()
    assert services.retire_due() == [first.number]
    assert Call.objects.count() == 20
    assert set(Batch.objects.values_list("epoch", flat=True)) == {2}
    assert len(documents(first.receipts_cid)) == 1 + first.batch_count
    assert list(reconciliation.differences()) == []
    assert list(ledger.differences(sources.receipts().unposted())) == []
