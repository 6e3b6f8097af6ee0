"""Commands and tasks: thin, and they say what they did."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from billing.payouts import services, tasks
from billing.payouts.models import Cursor, Transaction
from inframind.lib.problem import Problem
from tests.billing.epochs.keeper import Keeper
from tests.billing.payouts.acts import IFM, People, balance, sealed_epoch

pytestmark = pytest.mark.django_db(transaction=True)


def said(command: str, *arguments: Any) -> str:
    out = StringIO()
    call_command(command, *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_the_tasks_bring_a_deposit_in_and_a_root_out(
    people: People, committed_keeper: Keeper
) -> None:
    people.deposit(1, 10 * IFM)
    tasks.follow()
    tasks.follow()
    assert balance(people.address(1)) == 10 * IFM
    epoch = sealed_epoch(people.address(1), people.address(2), people.address(3), IFM)
    for _ in range(2):
        tasks.send()
    tasks.follow()
    epoch.refresh_from_db()
    assert epoch.state == "claimable"
    tasks.reconcile()
    assert people.roots() == [epoch.number]


def test_the_tasks_rest_without_a_chain(settings: Settings, committed_keeper: Keeper) -> None:
    settings.ETH_RPC_URL = ""
    tasks.follow()
    tasks.send()
    tasks.reconcile()
    assert not Cursor.objects.exists()


def test_a_root_is_published_by_hand(people: People, committed_keeper: Keeper) -> None:
    people.deposit(1, 10 * IFM)
    services.follow()
    epoch = sealed_epoch(people.address(1), people.address(2), people.address(3), IFM)
    key = f"root:{epoch.number}:0x{bytes(epoch.root or b'').hex()}"
    assert said("publish_root", epoch.number) == f"{key}: queued\n"
    assert said("publish_root", epoch.number, "--send") == f"{key}: sent\n"
    assert said("publish_root", epoch.number, "--send") == f"{key}: confirmed\n"
    with pytest.raises(CommandError, match="no epoch 77"):
        said("publish_root", 77)


def test_crediting_is_resumed_by_hand(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    with pytest.raises(CommandError, match="not halted"):
        said("resume_chain", "--reason", "I like to")
    people.chain.rpc("anvil_reorg", 2, [])
    people.mine(3)
    services.follow()
    with pytest.raises(CommandError, match="not said"):
        said("resume_chain", "--reason", " ")
    assert "1 events undone, 0 booked instead" in said("resume_chain", "--reason", "Reorganised.")
    cursor = Cursor.objects.get()
    assert (cursor.state, cursor.reason) == ("following", "Resumed: Reorganised.")


def test_what_was_spent_keeps_a_lost_deposit_from_being_forgotten(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    services.begin_withdrawal(people.wallet(1), IFM)
    people.chain.rpc("anvil_reorg", 2, [])
    people.mine(3)
    assert services.follow().halted
    with pytest.raises(Problem) as refused:
        services.resume(reason="It was reorganised.")
    assert refused.value.code == "deposit-gone-and-spent"
    assert people.address(1) in refused.value.detail
    assert Cursor.objects.get().state == "halted"
    assert balance(people.address(1)) == IFM


def test_the_contracts_are_deployed_by_hand(people: People, settings: Settings) -> None:
    with pytest.raises(CommandError, match="Repeat it with --yes"):
        said("deploy_contracts", "--guardian", people.address(4))
    printed = dict(
        line.split("=") for line in said("deploy_contracts", "--yes", "--supply", "5").splitlines()
    )
    settings.IFM_ADDRESS = printed["IFM_ADDRESS"]
    settings.SETTLEMENT_ADDRESS = printed["SETTLEMENT_ADDRESS"]
    settings.SETTLEMENT_BLOCK = int(printed["SETTLEMENT_BLOCK"])
    assert services.follow().reason == ""
    assert Cursor.objects.get().contract == printed["SETTLEMENT_ADDRESS"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--supply", "much"], "not an amount"),
        (["--guardian", "0x12"], "not a wallet address"),
        (["--challenge-seconds", "-1"], "not negative"),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused(
    people: People, arguments: list[str], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        said("deploy_contracts", "--yes", *arguments)
    assert not Transaction.objects.exists()
