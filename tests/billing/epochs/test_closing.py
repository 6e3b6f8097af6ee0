"""Closing an epoch: what it makes, and that it makes it once whatever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import transaction

from billing.epochs import closing, queries, services
from billing.epochs.models import Epoch, Line, Standing, Stream
from billing.ledger.models import Account
from billing.ledger.services import post
from inframind.lib import merkle, receipts, rewards
from inframind.lib.problem import Problem
from inframind.storage import dumps
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, books, facts, record

PAYER, OTHER_PAYER = address(1), address(2)
OWNER, OTHER_OWNER = address(11), address(12)
OPERATOR, OTHER_OPERATOR = address(21), address(22)
A, B = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

CALLS = [
    *[Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", A, IFM // 4)] * 10,
    *[Kept(OTHER_PAYER, OTHER_OWNER, OPERATOR, "vision", A, 7)] * 5,
    *[Kept(OTHER_PAYER, OWNER, OTHER_OPERATOR, "summarizer-v1", B, IFM // 3 + 1)] * 3,
    *[Kept(PAYER, OWNER, OTHER_OPERATOR, "free-one", B, 0)] * 4,
]


def document(cid: str) -> Any:
    return json.loads(b"".join(dumps.read(cid)))


def test_an_epoch_is_closed_down_to_its_sealed_root(keeper: Keeper) -> None:
    number = record(CALLS)
    epoch = services.close(at_once=True)
    revenue = 10 * (IFM // 4) + 5 * 7 + 3 * (IFM // 3 + 1)
    assert (epoch.number, epoch.state, epoch.receipt_count) == (number, "sealed", 22)
    assert int(epoch.revenue_base_units) == revenue
    owner_gross = 10 * (IFM // 4) + 3 * (IFM // 3 + 1)
    expected = {
        (OWNER, "model:summarizer-v1", "owner"): (13, owner_gross, owner_gross * 6 // 10),
        (OTHER_OWNER, "model:vision", "owner"): (5, 35, 21),
        (OPERATOR, f"node:{A}", "node"): (
            15,
            10 * (IFM // 4) + 35,
            (10 * (IFM // 4) + 35) * 3 // 10,
        ),
        (OTHER_OPERATOR, f"node:{B}", "node"): (
            3,
            3 * (IFM // 3 + 1),
            3 * (IFM // 3 + 1) * 3 // 10,
        ),
    }
    assert {
        (line.address, line.stream.subject, line.share): (
            line.calls,
            int(line.gross_base_units),
            int(line.amount_base_units),
        )
        for line in Line.objects.select_related("stream")
    } == expected
    shared = sum(amount for *_, amount in expected.values())
    found = books()
    assert found["treasury"] == revenue - shared
    assert found[f"epoch:{number}"] == 0
    assert found[f"wallet:{PAYER}"] == 10**6 * IFM - 10 * (IFM // 4)
    stream = merkle.keccak(b"model:summarizer-v1")
    assert found[f"owed:{OWNER}:0x{stream.hex()}"] == owner_gross * 6 // 10
    assert {int(each.charged_base_units) for each in Account.objects.all()} == {0}
    assert sum(found.values()) == 0


def test_the_next_epoch_opens_in_the_same_moment_with_room_for_its_receipts(
    keeper: Keeper,
) -> None:
    number = record(CALLS)
    epoch = services.close(at_once=True)
    following = services.current()
    assert following.number == number + 1
    assert following.opened_at == epoch.closed_at
    assert (following.ends_at - following.opened_at).total_seconds() == 7 * 86_400
    assert number + 1 in keeper.prepared


def test_the_published_dumps_are_what_their_cids_name_and_bear_the_roots_out(
    keeper: Keeper,
) -> None:
    record(CALLS)
    epoch = services.close(at_once=True)
    lines = [json.loads(line) for line in b"".join(dumps.read(epoch.receipts_cid)).splitlines()]
    header, batches = lines[0], lines[1:]
    assert header["format"] == "inframind-receipts-v1"
    assert (header["epoch"], header["batches"], header["count"]) == (1, 4, 22)
    assert header["fees"] == str(epoch.revenue_base_units)
    assert sum(int(fee) for batch in batches for _, fee, _ in batch["receipts"]) == int(
        epoch.revenue_base_units
    )
    leaves = [
        receipts.epoch_leaf(bytes.fromhex(batch["root"][2:]), batch["count"], int(batch["fees"]))
        for batch in batches
    ]
    assert header["root"] == "0x" + bytes(epoch.receipts_root or b"").hex()
    assert merkle.Tree.of(leaves).root == bytes(epoch.receipts_root or b"")
    tree = rewards.Dump.parse(document(epoch.tree_cid))
    assert list(rewards.flaws(tree, None)) == []
    assert tree.root == bytes(epoch.root or b"")
    assert (tree.total, tree.revenue) == (
        int(epoch.total_base_units),
        int(epoch.revenue_base_units),
    )
    assert tree.receipts_cid == epoch.receipts_cid


def test_standings_go_on_from_epoch_to_epoch_and_every_proof_verifies(keeper: Keeper) -> None:
    record(CALLS)
    first = services.close(at_once=True)
    record([Kept(PAYER, OWNER, OTHER_OPERATOR, "summarizer-v1", B, IFM)] * 2, seed=2)
    second = services.close(at_once=True)
    assert second.leaf_count == 4
    before = rewards.Dump.parse(document(first.tree_cid))
    after = rewards.Dump.parse(document(second.tree_cid))
    assert list(rewards.flaws(after, before)) == []
    assert after.previous == first.tree_cid
    for number, tree in ((1, before), (2, after)):
        for leaf in tree.leaves:
            cumulative, proof = queries.proof(number, leaf.account, leaf.stream)
            assert cumulative == leaf.cumulative
            assert merkle.verify(
                tree.root, merkle.leaf_of(leaf.account, leaf.stream, cumulative), proof
            )
    grown = {
        leaf.key: leaf.cumulative - {each.key: each.cumulative for each in before.leaves}[leaf.key]
        for leaf in after.leaves
    }
    assert sorted(grown.values()) == [0, 0, 2 * IFM * 3 // 10, 2 * IFM * 6 // 10]


def test_an_epoch_without_leaves_seals_an_empty_tree(keeper: Keeper) -> None:
    services.current()
    epoch = services.close(at_once=True)
    assert (epoch.state, epoch.root, epoch.leaf_count) == ("sealed", None, 0)
    assert bytes(epoch.receipts_root or b"") == merkle.NO_ROOT
    tree = rewards.Dump.parse(document(epoch.tree_cid))
    assert list(rewards.flaws(tree, None)) == []
    assert not Account.objects.filter(code__startswith="epoch:").exists()


def test_an_epoch_without_calls_carries_the_old_leaves_on(keeper: Keeper) -> None:
    record(CALLS)
    first = services.close(at_once=True)
    second = services.close(at_once=True)
    assert second.root == first.root
    assert second.leaf_count == first.leaf_count == 4
    assert second.tree_cid != first.tree_cid
    parsed = [rewards.Dump.parse(document(each.tree_cid)) for each in (second, first)]
    assert list(rewards.flaws(*parsed)) == []


def test_calls_that_are_all_free_pay_nobody(keeper: Keeper) -> None:
    record([Kept(PAYER, OWNER, OPERATOR, "free-one", A, 0)] * 9)
    epoch = services.close(at_once=True)
    assert (epoch.receipt_count, int(epoch.revenue_base_units), epoch.leaf_count) == (9, 0, 0)
    assert not Line.objects.exists()
    assert not Stream.objects.exists()


def test_dust_makes_a_line_and_goes_to_the_treasury(keeper: Keeper) -> None:
    record([Kept(PAYER, OWNER, OPERATOR, "dust", A, 1)])
    epoch = services.close(at_once=True)
    assert sorted(
        (line.share, int(line.gross_base_units), int(line.amount_base_units))
        for line in Line.objects.all()
    ) == [("node", 1, 0), ("owner", 1, 0)]
    assert books()["treasury"] == 1
    assert not Standing.objects.exists()
    assert list(rewards.flaws(rewards.Dump.parse(document(epoch.tree_cid)), None)) == []


def test_each_call_is_shared_by_the_parameters_of_its_time(keeper: Keeper) -> None:
    services.current()
    changed = services.change_parameters(
        by=None, reason="Nodes are scarce.", node_basis_points=5_000, owner_basis_points=5_000
    )
    record(
        [
            *[Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", A, 1_001)] * 3,
            *[Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", A, 1_001, changed.version)] * 3,
        ]
    )
    epoch = services.close(at_once=True)
    assert sorted(
        (line.parameters_id, line.share, int(line.amount_base_units)) for line in Line.objects.all()
    ) == [(1, "node", 900), (1, "owner", 1_801), (2, "node", 1_501), (2, "owner", 1_501)]
    assert books()["treasury"] == 6_006 - 900 - 1_801 - 1_501 - 1_501
    assert list(rewards.flaws(rewards.Dump.parse(document(epoch.tree_cid)), None)) == []
    assert epoch.leaf_count == 2


def test_a_hidden_stream_has_a_random_id_that_it_keeps(keeper: Keeper) -> None:
    record([Kept(PAYER, OWNER, OPERATOR, "secret-one", A, IFM, hidden=True)])
    services.close(at_once=True)
    stream = Stream.objects.get(subject="model:secret-one")
    assert bytes(stream.id) != merkle.keccak(b"model:secret-one")
    record([Kept(PAYER, OWNER, OPERATOR, "secret-one", A, IFM, hidden=False)], seed=2)
    epoch = services.close(at_once=True)
    assert bytes(Stream.objects.get(subject="model:secret-one").id) == bytes(stream.id)
    assert b"secret-one" not in b"".join(dumps.read(epoch.tree_cid))
    assert epoch.leaf_count == 2


def test_what_was_public_and_is_hidden_now_earns_by_a_stream_that_says_nothing(
    keeper: Keeper,
) -> None:
    public = merkle.keccak(b"model:summarizer-v1")
    standing = {}
    for seed, hidden in enumerate([False, True, True, False]):
        record([Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", A, IFM, hidden=hidden)], seed=seed)
        epoch = services.close(at_once=True)
        standing = {
            bytes(stream): int(amount)
            for stream, amount in Standing.objects.filter(address=OWNER).values_list(
                "stream_id", "cumulative_base_units"
            )
        }
    [secret] = standing.keys() - {public}
    # What was earned in public stays there; nothing is added once the name is private.
    assert (standing[public], standing[secret]) == (6 * IFM // 10, 3 * 6 * IFM // 10)
    assert Stream.objects.get(pk=secret).hidden
    assert sorted(queries.streams_named("summarizer-v1")) == sorted([public, secret])
    assert epoch.leaf_count == 3


def test_an_open_epoch_that_is_not_due_stays_open_unless_asked_at_once(keeper: Keeper) -> None:
    number = record(CALLS)
    assert services.close(number).state == Epoch.State.OPEN
    assert services.close_due() == services.Closed((), ())
    assert services.close(number, at_once=True).state == Epoch.State.SEALED
    assert services.close(number, at_once=True).state == Epoch.State.SEALED
    assert services.current().number == number + 1


def test_an_epoch_that_never_was_is_not_closed(keeper: Keeper) -> None:
    with pytest.raises(Problem) as refused:
        services.close(7, at_once=True)
    assert refused.value.status == 404


def test_a_due_epoch_is_closed_by_the_clock_of_the_database(keeper: Keeper) -> None:
    number = record(CALLS)
    Epoch.objects.filter(number=number).update(ends_at=Epoch.objects.get().opened_at)
    assert services.close_due() == services.Closed((number,), ())
    assert services.close_due() == services.Closed((), ())


@pytest.mark.parametrize("step", range(len(closing.STEPS) + 1))
def test_a_closer_that_dies_between_two_steps_is_gone_on_from(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    expected = _expected()
    with monkeypatch.context() as dying:
        dying.setattr(closing, "STEPS", (*closing.STEPS[:step], _die))
        with pytest.raises(SystemError):
            services.close(2, at_once=True)
    assert services.close(2, at_once=True).state == Epoch.State.SEALED
    assert facts(2) == expected
    services.close(2, at_once=True)
    assert facts(2) == expected


@pytest.mark.parametrize("posted", range(1, 8))
def test_a_closer_that_dies_in_the_middle_of_posting_is_gone_on_from(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, posted: int
) -> None:
    expected = _expected()
    left = iter(range(posted))

    def post_a_few(*args: Any, **kwargs: Any) -> int:
        if next(left, None) is None:
            raise SystemError
        return post(*args, **kwargs)

    with monkeypatch.context() as dying:
        dying.setattr(closing, "post", post_a_few)
        dying.setattr(closing, "_CHARGES_AT_ONCE", 1)
        dying.setattr(closing, "_LINES_AT_ONCE", 1)
        with pytest.raises(SystemError):
            services.close(2, at_once=True)
    services.close(2, at_once=True)
    assert facts(2) == expected


def test_an_epoch_is_not_sealed_before_an_earlier_one_and_both_are_gone_on_with(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(CALLS)
    with monkeypatch.context() as dying:
        dying.setattr(closing, "STEPS", (closing.shut, _die))
        with pytest.raises(SystemError):
            services.close(at_once=True)
    record(CALLS, seed=2)
    closing.shut(2)
    for step in closing.STEPS[:-2]:
        step(2, True)
    for step in closing.STEPS[-2:]:
        with pytest.raises(Problem, match="Epoch 1 is not sealed yet"):
            step(2, True)
    assert services.close_due() == services.Closed((1, 2), ())
    trees = [rewards.Dump.parse(document(each.tree_cid)) for each in queries.epochs()[1:]]
    assert list(rewards.flaws(*trees)) == []


def _die(number: int, wait: bool) -> None:
    raise SystemError(number)


def _expected() -> tuple[object, ...]:
    """What closing the second epoch undisturbed makes; it is undone, and may be closed again."""
    record(CALLS)
    services.close(at_once=True)
    record([*CALLS[5:], Kept(PAYER, OTHER_OWNER, OPERATOR, "later", A, 5 * IFM)], seed=2)
    with transaction.atomic():
        services.close(2, at_once=True)
        expected = facts(2)
        transaction.set_rollback(True)
    return expected
