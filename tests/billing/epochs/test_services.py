"""Parameters, retiring, tasks, the command and the portal."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from billing.epochs import queries, services, tasks
from billing.epochs.models import Epoch, Parameters
from billing.epochs.signals import epoch_opened, epoch_sealed
from inframind.identity.models import Wallet
from inframind.lib.cid import parse_cid
from inframind.lib.problem import Problem
from inframind.storage import dumps
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, record
from tests.inframind.identity.browsing import verified

PAYER, OWNER, OPERATOR = address(1), address(11), address(21)
NODE = "11111111-1111-1111-1111-111111111111"
CALLS = [Kept(PAYER, OWNER, OPERATOR, "summarizer-v1", NODE, IFM // 4)] * 10


def test_the_first_parameters_and_the_first_epoch_make_themselves(keeper: Keeper) -> None:
    epoch = services.current()
    latest = queries.latest_parameters()
    assert (epoch.number, epoch.state) == (1, "open")
    assert epoch.ends_at - epoch.opened_at == timedelta(days=7)
    assert (latest.version, latest.node_basis_points, latest.owner_basis_points) == (1, 3000, 6000)
    assert queries.shares_of(latest) == {"node": 3000, "owner": 6000, "treasury": 1000}
    assert keeper.prepared == [1]
    assert services.current() == epoch


def test_parameters_change_by_a_new_version_and_what_is_not_given_stays(keeper: Keeper) -> None:
    by = Wallet.objects.of(address(77))
    epoch = services.current()
    changed = services.change_parameters(by=by, reason=" Nodes earn more. ", node_basis_points=4000)
    assert (changed.version, changed.node_basis_points, changed.owner_basis_points) == (
        2,
        4000,
        6000,
    )
    assert (changed.reason, changed.changed_by) == ("Nodes earn more.", by)
    services.change_parameters(by=None, reason="Shorter epochs.", epoch_seconds=3600)
    assert list(Parameters.objects.order_by("version").values_list("version", flat=True)) == [
        1,
        2,
        3,
    ]
    # What is open already ends when it was to end; the next takes the new length.
    assert services.current().ends_at == epoch.ends_at
    services.close(at_once=True)
    following = services.current()
    assert following.ends_at - following.opened_at == timedelta(hours=1)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"node_basis_points": 4001}, "/owner_basis_points"),
        ({"node_basis_points": -1}, "/node_basis_points"),
        ({"owner_basis_points": 10_001}, "/owner_basis_points"),
        ({"epoch_seconds": 0}, "/epoch_seconds"),
        ({"epoch_seconds": 10**12}, "/epoch_seconds"),
        ({"reason": "  "}, "/reason"),
        ({"reason": "x" * 201}, "/reason"),
    ],
)
def test_parameters_that_cannot_be_are_refused_and_nothing_changes(
    keeper: Keeper, changes: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(Problem) as refused:
        services.change_parameters(**{"by": None, "reason": "Why not.", **changes})
    assert [each.pointer for each in refused.value.violations] == [pointer]
    assert queries.latest_parameters().version == 1


def test_old_receipts_leave_once_enough_epochs_are_sealed(
    keeper: Keeper, settings: Settings
) -> None:
    settings.RECEIPT_EPOCHS_KEPT = 2
    for seed in range(4):
        record(CALLS, seed=seed)
        services.close(at_once=True)
    assert services.retire_due() == [1, 2]
    assert keeper.retired == [1, 2]
    assert services.retire_due() == []
    tasks.retire()
    assert keeper.retired == [1, 2]
    assert Epoch.objects.filter(retired_at=None).count() == 3
    epoch = Epoch.objects.get(number=1)
    assert b"".join(dumps.read(epoch.receipts_cid)).startswith(b'{"format":"inframind-receipts-v1"')


@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_receipts_stay_where_their_dump_is_lost_or_damaged(
    keeper: Keeper, settings: Settings, store_dir: Path, harm: str
) -> None:
    settings.RECEIPT_EPOCHS_KEPT = 1
    for seed in range(3):
        record(CALLS, seed=seed)
        services.close(at_once=True)
    cid = Epoch.objects.get(number=1).receipts_cid
    [block] = (store_dir / "dumps" / "blocks").glob(f"*/*/{parse_cid(cid)}")
    if harm == "lost":
        block.unlink()
    else:
        block.write_bytes(b"{" + block.read_bytes())
    assert services.retire_due() == [2]
    assert Epoch.objects.get(number=1).retired_at is None


def test_epochs_are_told_of_once_they_are_there(
    keeper: Keeper, django_capture_on_commit_callbacks: Any
) -> None:
    told: list[tuple[str, int]] = []

    def opened(number: int, **_: Any) -> None:
        told.append(("opened", number))

    def sealed(number: int, **_: Any) -> None:
        told.append(("sealed", number))

    epoch_opened.connect(opened)
    epoch_sealed.connect(sealed)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            services.close(at_once=True)
    finally:
        epoch_opened.disconnect(opened)
        epoch_sealed.disconnect(sealed)
    assert told == [("opened", 1), ("opened", 2), ("sealed", 1)]


def test_the_command_closes_the_current_epoch_and_tells_what_it_made(keeper: Keeper) -> None:
    record(CALLS)
    out = StringIO()
    call_command("close_epoch", stdout=out)
    epoch = Epoch.objects.get(number=1)
    lines = dict(line.split(maxsplit=1) for line in out.getvalue().splitlines())
    assert lines["epoch"] == "1  sealed"
    assert lines["revenue"] == "2.5 IFM"
    assert "holds: 2500000000000000000 charged" in out.getvalue()
    assert f"0x{bytes(epoch.root or b'').hex()}" == lines["root"]
    assert lines["tree"] == epoch.tree_cid
    call_command("close_epoch", "1", stdout=out)
    assert Epoch.objects.count() == 2
    with pytest.raises(CommandError, match="There is no epoch 9"):
        call_command("close_epoch", "9", stdout=out)


def test_the_command_closes_an_empty_epoch(keeper: Keeper) -> None:
    out = StringIO()
    call_command("close_epoch", stdout=out)
    assert "0x" + "00" * 32 in out.getvalue()
    assert "holds: 0 charged = 0 shared + 0 treasury" in out.getvalue()


def test_rewards_are_told_against_the_epoch_that_is_claimable(keeper: Keeper) -> None:
    record(CALLS)
    services.close(at_once=True)
    record(CALLS[:2], seed=2)
    second = services.close(at_once=True)
    [none_yet] = queries.rewards_of(OWNER, epoch=None)
    assert (none_yet.cumulative_base_units, none_yet.pending_base_units) == (0, IFM * 3 * 6 // 10)
    assert (none_yet.proven, none_yet.root) == (False, None)
    [first] = queries.rewards_of(OWNER, epoch=1)
    assert (first.cumulative_base_units, first.pending_base_units) == (
        IFM * 25 // 10 * 6 // 10,
        IFM // 2 * 6 // 10,
    )
    assert [each.epoch for each in first.earnings] == [2, 1]
    assert (first.earnings[0].basis_points, first.earnings[0].calls) == (6000, 2)
    [both] = queries.rewards_of(OWNER, epoch=2)
    assert (both.pending_base_units, both.root) == (0, bytes(second.root or b""))
    assert queries.rewards_of(address(99), epoch=2) == []
    assert queries.rewards_of(OWNER, epoch=2, streams=[]) == []
    assert queries.streams_named("summarizer-v1") == [both.stream]
    assert queries.streams_named("model:summarizer-v1") == [both.stream]
    assert queries.streams_named(both.stream_hex) == [both.stream]
    assert queries.streams_named("0x" + "g" * 64) == []


def test_there_is_no_proof_of_what_is_not_in_the_tree(keeper: Keeper) -> None:
    record(CALLS)
    services.close(at_once=True)
    [reward] = queries.rewards_of(OWNER, epoch=1)
    for number, who, stream in (
        (1, address(99), reward.stream),
        (1, OWNER, bytes(32)),
        (2, OWNER, reward.stream),
        (9, OWNER, reward.stream),
    ):
        with pytest.raises(Problem) as refused:
            queries.proof(number, who, stream)
        assert refused.value.status == 404


def test_an_epoch_that_never_was_is_not_found(keeper: Keeper) -> None:
    for number in (1, -1, 2**63, 2**70):
        with pytest.raises(Problem) as refused:
            queries.epoch(number)
        assert refused.value.status == 404
    assert queries.latest_sealed() is None


@pytest.mark.parametrize("model", ["epoch", "parameters", "stream", "line", "standing"])
def test_staff_read_epochs_in_the_portal_and_change_nothing(keeper: Keeper, model: str) -> None:
    staff = Wallet.objects.of(address(88))
    staff.is_staff = True
    staff.save()
    desk = verified(staff)
    record(CALLS)
    services.close(at_once=True)
    page = desk.get(f"/admin/epochs/{model}/")
    assert page.status_code == 200
    assert desk.get(f"/admin/epochs/{model}/add/").status_code == 403
