"""What does not add up is not sealed, and what is sealed does not change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from billing.epochs import closing, reconciliation, services, sources
from billing.epochs.models import Epoch, Line, Parameters, Standing, Stream, Tree
from billing.epochs.sources import Charge, Revenue, SignedBatch
from billing.ledger.models import Transfer
from inframind.lib.problem import Problem
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, books, record

PAYER, OWNER, OPERATOR = address(1), address(11), address(21)
NODE = "11111111-1111-1111-1111-111111111111"
CALLS = [Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", NODE, IFM // 4)] * 10


def test_a_batch_that_its_receipts_do_not_bear_out_keeps_the_epoch_closing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = record(CALLS)

    def forged(epoch: int) -> Iterator[SignedBatch]:
        for batch in Keeper.batches(keeper, epoch):
            yield replace(batch, fees_base_units=batch.fees_base_units - 1)

    before = books()
    with monkeypatch.context() as broken:
        broken.setattr(keeper, "batches", forged)
        with pytest.raises(Problem) as refused:
            services.close(at_once=True)
        assert refused.value.code == "epoch-does-not-add-up"
        assert services.close_due() == services.Closed((), (number,))
    assert Epoch.objects.get(number=number).state == Epoch.State.CLOSING
    assert books() == before
    assert services.close_due() == services.Closed((number,), ())


def test_a_lost_receipt_keeps_the_epoch_closing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(CALLS)

    def short(epoch: int) -> Iterator[SignedBatch]:
        return iter(list(Keeper.batches(keeper, epoch))[1:])

    monkeypatch.setattr(keeper, "batches", short)
    with pytest.raises(Problem, match="its wallets owe"):
        services.close(at_once=True)


def test_a_source_that_finds_a_row_changed_keeps_the_epoch_closing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = record(CALLS)

    def failing(epoch: int) -> Iterator[SignedBatch]:
        raise RuntimeError("The row of call 7 is not the one whose receipt was signed.")

    monkeypatch.setattr(keeper, "batches", failing)
    with pytest.raises(Problem, match="call 7"):
        services.close(at_once=True)
    assert services.close_due() == services.Closed((), (number,))


@pytest.mark.parametrize("share", ["owner", "node"])
def test_fees_that_are_shared_twice_keep_the_epoch_closing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, share: str
) -> None:
    record(CALLS)

    def doubled(epoch: int) -> Iterator[Revenue]:
        for row in Keeper.revenue(keeper, epoch):
            yield row
            if row.share == share:
                yield row

    monkeypatch.setattr(keeper, "revenue", doubled)
    with pytest.raises(Problem, match="cannot be shared out"):
        services.close(at_once=True)
    assert not Line.objects.exists()
    assert "treasury" not in books()


def test_a_share_that_nobody_set_keeps_the_epoch_closing(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(CALLS)
    rows = [replace(row, share="other") for row in keeper.revenue(1)]
    monkeypatch.setattr(keeper, "revenue", lambda epoch: iter(rows))
    with pytest.raises(Problem, match="cannot be shared out"):
        services.close(at_once=True)


def test_charges_that_change_after_the_receipts_were_kept_do_not_pass(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = record(CALLS)
    closing.shut(number)
    closing.keep_receipts(number)
    monkeypatch.setattr(keeper, "charges", lambda epoch: iter([Charge(PAYER, 5)]))
    with pytest.raises(Problem):
        closing.drive(number)
    assert Epoch.objects.get(number=number).state == Epoch.State.CLOSING


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units - 1",
        "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units + 1",
        "DELETE FROM epochs_standing WHERE address = %(owner)s",
        "UPDATE epochs_standing SET address = %(other)s WHERE address = %(owner)s",
    ],
)
def test_a_standing_that_fell_vanished_or_grew_is_not_sealed(
    keeper: Keeper, tampering: str
) -> None:
    record(CALLS)
    services.close(at_once=True)
    record([Kept(PAYER, OWNER, OPERATOR, "another", NODE, IFM)], seed=2)
    closing.shut(2)
    for step in closing.STEPS[1:-1]:
        step(2, True)
    _force(tampering, owner=OWNER, other=address(99))
    with pytest.raises(Problem, match="is not sealed"):
        closing.drive(2)
    assert Epoch.objects.get(number=2).state == Epoch.State.CLOSING
    assert not Tree.objects.filter(epoch_id=2).exists()
    assert [each.row for each in reconciliation.differences()]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units - 1",
        "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units + 1",
        "DELETE FROM epochs_standing",
        "UPDATE epochs_line SET amount_base_units = 0",
        "DELETE FROM epochs_line",
        "UPDATE epochs_parameters SET node_basis_points = 1",
        "DELETE FROM epochs_parameters",
        "UPDATE epochs_stream SET id = sha256(id)",
        "UPDATE epochs_tree SET nodes = ''",
        "UPDATE epochs_epoch SET state = 'closing' WHERE number = 1",
        "UPDATE epochs_epoch SET state = 'open', closed_at = NULL WHERE number = 1",
        "UPDATE epochs_epoch SET root = sha256('') WHERE number = 1",
        "UPDATE epochs_epoch SET total_base_units = total_base_units + 1 WHERE number = 1",
        "UPDATE epochs_epoch SET receipts_cid = 'bafy' WHERE number = 1",
        "DELETE FROM epochs_epoch WHERE number = 1",
        "UPDATE epochs_epoch SET number = 9 WHERE number = 1",
    ],
)
def test_the_database_refuses_to_change_what_was_sealed(keeper: Keeper, change: str) -> None:
    record(CALLS)
    services.close(at_once=True)
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_a_sealed_epoch_goes_to_the_chain_and_back_when_its_root_is_revoked(
    keeper: Keeper,
) -> None:
    record(CALLS)
    services.close(at_once=True)
    for state in ("proposed", "sealed", "proposed", "claimable"):
        assert Epoch.objects.filter(number=1).update(state=state) == 1


def test_reconciliation_finds_nothing_where_nothing_is_wrong(keeper: Keeper) -> None:
    record(CALLS)
    services.close(at_once=True)
    record([Kept(PAYER, OWNER, OPERATOR, "another", NODE, 7)] * 3, seed=2)
    services.close(at_once=True)
    services.close(at_once=True)
    record(CALLS, seed=3)
    assert list(reconciliation.differences()) == []
    closing.shut(4)
    for step in closing.STEPS[1:]:
        assert list(reconciliation.differences()) == []
        step(4, True)
    assert list(reconciliation.differences()) == []


@pytest.mark.parametrize(
    ("tampering", "row", "what"),
    [
        (
            "UPDATE epochs_line SET amount_base_units = amount_base_units - 1"
            " WHERE address = %(owner)s",
            "epoch 1",
            "lines and the treasury's rest",
        ),
        (
            "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units + 1"
            " WHERE address = %(owner)s",
            OWNER,
            "standing",
        ),
        (
            "UPDATE epochs_tree SET nodes = overlay(nodes placing sha256('') from 1)",
            "epoch 1",
            "nodes of the tree",
        ),
        ("UPDATE epochs_epoch SET root = sha256('') WHERE number = 1", "epoch 1", "roots"),
        ("UPDATE epochs_epoch SET leaf_count = 9 WHERE number = 1", "epoch 1", "leaves"),
        (
            "UPDATE epochs_epoch SET revenue_base_units = revenue_base_units + 1 WHERE number = 1",
            "epoch 1",
            "charges posted",
        ),
        ("UPDATE kept_receipt SET fee = fee + 1", "wallet:" + PAYER, "charge of epoch 1"),
        ("DELETE FROM kept_receipt WHERE position = 0", "epoch 1", "receipts"),
        ("DELETE FROM ledger_transfer WHERE reason = 'share'", OPERATOR, "shares posted"),
    ],
)
def test_reconciliation_names_the_row_that_differs(
    keeper: Keeper, tampering: str, row: str, what: str
) -> None:
    record(CALLS)
    services.close(at_once=True)
    assert list(reconciliation.differences()) == []
    _force(tampering, owner=OWNER)
    found = [
        each
        for each in reconciliation.differences()
        if each.row.startswith(row) and each.what.startswith(what)
    ]
    assert found, list(map(str, reconciliation.differences()))
    assert all(each.expected != each.found for each in found)


def test_the_source_has_to_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_source", None)
    with pytest.raises(RuntimeError, match="No app keeps receipts"):
        sources.receipts()


def test_nothing_of_a_refused_epoch_is_left_behind(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(CALLS)
    rows = [replace(row, parameters_version=77) for row in keeper.revenue(1)]
    monkeypatch.setattr(keeper, "revenue", lambda epoch: iter(rows))
    with pytest.raises(Problem):
        services.close(at_once=True)
    counts = [model.objects.count() for model in (Line, Standing, Tree)]
    assert counts == [0, 0, 0]
    assert Transfer.objects.exclude(reason="deposit").count() == 1  # the charge
    assert Parameters.objects.count() == 1
    assert not Stream.objects.exists()


def _force(statement: str, **values: Any) -> None:
    """Runs a statement that the triggers refuse, as somebody with the server's own rights could."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")
