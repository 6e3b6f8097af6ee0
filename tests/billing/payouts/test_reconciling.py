"""Books, receipts and chain agree after a whole life; whoever touches one is named."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from billing.epochs.models import Epoch, Standing
from billing.payouts import reconciliation, services
from billing.payouts.models import Cursor, Event
from tests.billing.epochs.keeper import Keeper
from tests.billing.payouts.acts import IFM, People, available, balance, sealed_epoch

pytestmark = pytest.mark.django_db(transaction=True)
PAYER, OWNER, OPERATOR = 1, 2, 3


@pytest.fixture
def life(people: People, committed_keeper: Keeper) -> Epoch:
    """Deposits, an epoch, a claim of one of its payees, a withdrawal, all on chain."""
    people.deposit(PAYER, 100 * IFM)
    people.deposit(4, 5 * IFM)
    services.follow()
    epoch = sealed_epoch(
        people.address(PAYER), people.address(OWNER), people.address(OPERATOR), IFM, calls=10
    )
    services.publish_due()
    rounds()
    services.relay_claim(people.wallet(OWNER))
    services.relay_withdrawal(services.begin_withdrawal(people.wallet(4), 2 * IFM))
    rounds()
    epoch.refresh_from_db()
    return epoch


def rounds() -> None:
    for _ in range(2):
        services.send_due()
    services.follow()


def found() -> list[str]:
    return [str(each) for each in reconciliation.differences()]


def reconciled() -> str:
    out = StringIO()
    call_command("reconcile", stdout=out)
    return out.getvalue()


def tamper(statement: str, *parameters: Any) -> None:
    """As somebody who has the database and no respect for its triggers."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role TO replica")
        cursor.execute(statement, parameters)
        assert cursor.rowcount == 1
        cursor.execute("SET session_replication_role TO origin")


def test_after_a_whole_life_everything_agrees(people: People, life: Epoch) -> None:
    assert found() == []
    assert reconciled() == "Books, receipts and chain agree.\n"
    assert people.ifm_of(people.address(OWNER)) == 6 * IFM
    assert people.ifm_of(people.address(4)) == 2 * IFM
    assert balance(people.address(PAYER)) == 90 * IFM
    assert (balance(people.address(4)), available(people.address(4))) == (3 * IFM, 3 * IFM)


def test_before_anything_happened_everything_agrees(
    people: People, committed_keeper: Keeper
) -> None:
    services.follow()
    assert found() == []


def test_a_chain_that_was_never_read_is_no_agreement(
    people: People, committed_keeper: Keeper
) -> None:
    people.deposit(PAYER, IFM)
    with pytest.raises(CommandError, match=r"no event of 0x.* was ever read") as failed:
        reconciled()
    assert failed.value.returncode == 1
    services.follow()
    assert reconciled() == "Books, receipts and chain agree.\n"


def test_a_transfer_that_was_raised_is_named(people: People, life: Epoch) -> None:
    event = Event.objects.filter(kind="deposited").first()
    assert event is not None
    tamper(
        "UPDATE ledger_transfer SET amount_base_units = amount_base_units + 1"
        " WHERE subject = %s AND reason = 'deposit'",
        event.transaction_hash,
    )
    names = found()
    assert any(name.startswith(f"wallet:{people.address(PAYER)}: posted") for name in names)
    assert any(name.startswith("transfer ") and "its event's amount" in name for name in names)


def test_an_event_that_was_invented_is_named(people: People, life: Epoch) -> None:
    real = Event.objects.filter(kind="deposited").latest("block_number")
    tamper(
        "INSERT INTO payouts_event (transaction_hash, log_index, block_number, block_hash, kind,"
        " account, sender, delegate, amount_base_units, cumulative_base_units, mined_at)"
        " VALUES (%s, 7, %s, %s, 'deposited', %s, %s, '', 5, 0, now())",
        "0x" + "77" * 32, real.block_number, real.block_hash, real.account, real.sender,
    )  # fmt: skip
    names = found()
    assert any("0x" + "77" * 32 in name and "on chain" in name for name in names)
    assert any("0x" + "77" * 32 in name and "its transfer" in name for name in names)
    assert any("events deposited" in name for name in names)


def test_an_event_that_was_deleted_is_named(people: People, life: Epoch) -> None:
    gone = Event.objects.filter(kind="claimed").latest("block_number")
    tamper("DELETE FROM payouts_event WHERE id = %s", gone.pk)
    names = found()
    assert any(gone.transaction_hash in name and "in the books" in name for name in names)
    assert any("events claimed" in name for name in names)


@pytest.mark.parametrize("column", ["account", "sender"])
def test_an_event_that_was_changed_is_named(people: People, life: Epoch, column: str) -> None:
    changed = Event.objects.filter(kind="deposited").latest("block_number")
    tamper(f"UPDATE payouts_event SET {column} = %s WHERE id = %s", "0x" + "00" * 20, changed.pk)
    assert any(name.startswith(f"event {changed.pk} ") and column in name for name in found())


def test_a_standing_that_was_raised_is_named(people: People, life: Epoch) -> None:
    standing = Standing.objects.get(address=people.address(OWNER))
    tamper(
        "UPDATE epochs_standing SET cumulative_base_units = cumulative_base_units + 1"
        " WHERE id = %s",
        standing.pk,
    )
    assert any(f"owed:{people.address(OWNER)}:" in name for name in found())


def test_a_root_that_is_not_the_chains_is_named(people: People, life: Epoch) -> None:
    tamper("UPDATE epochs_epoch SET root = %s WHERE number = %s", b"\7" * 32, life.number)
    assert any(f"epoch {life.number}: its root" in name for name in found())


def test_a_hold_without_its_withdrawal_is_named(people: People, life: Epoch) -> None:
    withdrawal = services.begin_withdrawal(people.wallet(4), IFM)
    tamper("UPDATE payouts_withdrawal SET state = 'expired' WHERE id = %s", withdrawal.pk)
    assert any(name.startswith(f"withdrawal {withdrawal.pk}: its hold") for name in found())


def test_a_cursor_that_was_moved_is_named(people: People, life: Epoch) -> None:
    tamper("UPDATE payouts_cursor SET block_hash = %s", "0x" + "ab" * 32)
    assert any(name.startswith("cursor, block") for name in found())


def test_the_command_exits_with_one_and_names_the_row(people: People, life: Epoch) -> None:
    tamper("UPDATE epochs_epoch SET root = %s WHERE number = %s", b"\7" * 32, life.number)
    out = StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("reconcile", stdout=out)
    assert failed.value.returncode == 1
    assert f"epoch {life.number}: its root" in out.getvalue()


def test_a_chain_that_cannot_be_asked_is_no_agreement(
    people: People, life: Epoch, settings: Settings
) -> None:
    settings.ETH_RPC_URL = "http://127.0.0.1:9"
    with pytest.raises(CommandError, match="could not be compared"):
        reconciled()


def test_after_a_halt_and_resuming_everything_agrees(people: People, life: Epoch) -> None:
    """A deposit, a claim and a withdrawal are taken back and come again."""
    people.mine(2)
    services.follow()
    payee = people.wallet(OPERATOR)
    height = people.client.head().number
    people.deposit(5, 7 * IFM)
    services.relay_claim(payee)
    withdrawal = services.begin_withdrawal(people.wallet(4), IFM)
    services.relay_withdrawal(withdrawal)
    rounds()
    assert found() == []
    people.chain.rpc("anvil_reorg", people.client.head().number - height, [])
    people.mine(2)
    assert services.follow().halted
    assert found()
    resumed = services.resume(reason="The chain was reorganised.")
    assert resumed.booked == 0
    assert balance(people.address(5)) == 0
    withdrawal.refresh_from_db()
    assert withdrawal.state == "open"
    assert found() == []
    for _ in range(3):
        rounds()
    withdrawal.refresh_from_db()
    assert withdrawal.state == "paid"
    assert people.ifm_of(people.address(OPERATOR)) == 3 * IFM
    assert found() == []
    assert Cursor.objects.get().state == "following"
