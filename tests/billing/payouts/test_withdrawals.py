"""Unspent balance on its way back: the hold and the voucher end together."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import connection
from eth_utils.crypto import keccak
from pytest_django import Settings

from billing.ledger import services as ledger
from billing.ledger.models import Account, Hold
from billing.ledger.services import HoldRequest
from billing.payouts import services
from billing.payouts.following import Followed
from billing.payouts.models import Cursor, Withdrawal
from inframind.lib import calldata, secp256k1
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from tests.billing.payouts.acts import IFM, People, available, balance, everything

pytestmark = pytest.mark.django_db


@pytest.fixture
def rich(people: People) -> People:
    """Account 1 has a balance of ten."""
    people.deposit(1, 10 * IFM)
    services.follow()
    return people


def rounds() -> None:
    services.send_due()
    services.send_due()
    services.follow()


def past_deadline(people: People, settings: Settings) -> None:
    people.chain.rpc("evm_increaseTime", settings.WITHDRAWAL_HOURS * 3_600 + 10)
    people.mine()


def test_a_wallet_withdraws_by_itself(rich: People) -> None:
    wallet = rich.wallet(1)
    row = services.begin_withdrawal(wallet, 4 * IFM)
    assert (balance(wallet.address), available(wallet.address)) == (10 * IFM, 6 * IFM)
    assert (int(row.amount_base_units), int(row.cumulative_base_units)) == (4 * IFM, 4 * IFM)
    signature = bytes(row.signature)
    assert int.from_bytes(signature[32:64], "big") <= secp256k1.ORDER // 2
    typed = calldata.withdrawal_typed_data(
        chain_id=31_337,
        settlement=rich.chain.settlement,
        account=wallet.address,
        cumulative=4 * IFM,
        deadline=int(row.deadline.timestamp()),
    )
    assert (
        secp256k1.recover(calldata.typed_data_digest(typed), signature)
        == rich.chain.operator.address
    )
    made = services.unsigned_withdrawal(row)
    assert rich.status(rich.send_unsigned(1, made)) == 1
    services.follow()
    row.refresh_from_db()
    assert row.state == "paid"
    assert row.event is not None
    assert (balance(wallet.address), available(wallet.address)) == (6 * IFM, 6 * IFM)
    assert rich.ifm_of(wallet.address) == 4 * IFM


def test_the_next_one_counts_on(rich: People) -> None:
    wallet = rich.wallet(1)
    for number, amount in enumerate((3, 2), start=1):
        row = services.begin_withdrawal(wallet, amount * IFM)
        services.relay_withdrawal(row)
        assert services.relay_withdrawal(row).key == f"withdrawal:{row.pk}"
        rounds()
        row.refresh_from_db()
        assert row.state == "paid", number
    assert int(row.cumulative_base_units) == 5 * IFM
    assert rich.ifm_of(wallet.address) == 5 * IFM
    assert balance(wallet.address) == 5 * IFM


def test_anybody_may_send_it_and_the_wallet_is_paid(rich: People) -> None:
    row = services.begin_withdrawal(rich.wallet(1), IFM)
    made = services.unsigned_withdrawal(row)
    rich.send(rich.address(7), made.to, made.data)
    services.follow()
    row.refresh_from_db()
    assert (row.state, rich.ifm_of(rich.address(1)), rich.ifm_of(rich.address(7))) == (
        "paid",
        IFM,
        0,
    )


def test_one_at_a_time(rich: People) -> None:
    services.begin_withdrawal(rich.wallet(1), IFM)
    with pytest.raises(Problem) as refused:
        services.begin_withdrawal(rich.wallet(1), IFM)
    assert (refused.value.status, refused.value.code) == (409, "withdrawal-open")
    assert available(rich.address(1)) == 9 * IFM


@pytest.mark.django_db(transaction=True)
def test_many_at_once_make_one(rich: People) -> None:
    wallet = rich.wallet(1)

    def begin(_: int) -> str:
        try:
            services.begin_withdrawal(wallet, 2 * IFM)
        except Problem as problem:
            return problem.code
        finally:
            connection.close()
        return "begun"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(begin, range(6)))
    assert said == ["begun"] + ["withdrawal-open"] * 5
    assert available(wallet.address) == 8 * IFM
    assert Hold.objects.count() == 1


def test_no_more_than_is_available(rich: People) -> None:
    ledger.hold(
        [
            HoldRequest(
                new_uuid7(),
                f"wallet:{rich.address(1)}",
                "treasury",
                3 * IFM,
                "escrow",  # type: ignore[arg-type]
            )
        ]
    )
    with pytest.raises(Problem) as refused:
        services.begin_withdrawal(rich.wallet(1), 7 * IFM + 1)
    assert refused.value.status == 402
    assert not Withdrawal.objects.exists()
    services.begin_withdrawal(rich.wallet(1), 7 * IFM)


def test_the_cap_of_the_day_is_told(rich: People) -> None:
    data = bytes(keccak(text="setDailyWithdrawalCap(uint256)"))[:4] + IFM.to_bytes(32, "big")
    rich.send(rich.chain.operator.address, rich.chain.settlement, data)
    with pytest.raises(Problem) as refused:
        services.begin_withdrawal(rich.wallet(1), IFM + 1)
    assert (refused.value.status, refused.value.code) == (409, "withdrawals-capped")
    assert "1 IFM" in refused.value.detail


def test_a_voucher_that_was_not_used_gives_the_money_back(rich: People, settings: Settings) -> None:
    row = services.begin_withdrawal(rich.wallet(1), 4 * IFM)
    made = services.unsigned_withdrawal(row)
    services.follow()
    assert services.expire_withdrawals() == 0
    assert available(rich.address(1)) == 6 * IFM
    past_deadline(rich, settings)
    assert services.expire_withdrawals() == 0  # nothing of that time is booked yet
    services.follow()
    row.refresh_from_db()
    assert row.state == "expired"
    assert available(rich.address(1)) == 10 * IFM
    late = rich.send(rich.address(1), made.to, made.data)
    assert rich.status(late) == 0
    for ask in (services.unsigned_withdrawal, services.relay_withdrawal):
        with pytest.raises(Problem) as refused:
            ask(row)
        assert (refused.value.status, refused.value.code) == (409, "withdrawal-over")
    again = services.begin_withdrawal(rich.wallet(1), 10 * IFM)
    assert int(again.cumulative_base_units) == 10 * IFM


def test_a_voucher_used_at_the_last_moment_is_paid_not_expired(
    rich: People, settings: Settings
) -> None:
    """Its payment and the block past its deadline are read in the same round."""
    row = services.begin_withdrawal(rich.wallet(1), 4 * IFM)
    made = services.unsigned_withdrawal(row)
    rich.send(rich.address(1), made.to, made.data)
    past_deadline(rich, settings)
    services.follow()
    row.refresh_from_db()
    assert row.state == "paid"
    assert available(rich.address(1)) == 6 * IFM


def test_only_the_chains_clock_ends_a_voucher(rich: People, settings: Settings) -> None:
    row = services.begin_withdrawal(rich.wallet(1), 4 * IFM)
    ledger.expire_due()
    services.follow()
    assert available(rich.address(1)) == 6 * IFM
    hold = Hold.objects.get(pk=row.hold_id)
    assert (hold.expires_at, int(hold.remaining_base_units)) == (None, 4 * IFM)


def test_one_that_waits_for_confirmations_keeps_the_next_one_waiting(
    rich: People, settings: Settings
) -> None:
    settings.CHAIN_CONFIRMATIONS = 3
    row = services.begin_withdrawal(rich.wallet(1), IFM)
    made = services.unsigned_withdrawal(row)
    rich.send(rich.address(1), made.to, made.data)
    services.follow()
    Withdrawal.objects.update(state="expired")
    with pytest.raises(Problem) as refused:
        services.begin_withdrawal(rich.wallet(1), IFM)
    assert (refused.value.status, refused.value.code) == (409, "withdrawal-unconfirmed")


def test_a_withdrawal_that_the_books_do_not_know_halts_crediting(rich: People) -> None:
    """Whoever has the voucher's key can sign without us; then nothing goes on unseen."""
    row = services.begin_withdrawal(rich.wallet(1), IFM)
    typed = calldata.withdrawal_typed_data(
        chain_id=31_337,
        settlement=rich.chain.settlement,
        account=rich.address(1),
        cumulative=5 * IFM,
        deadline=2**40,
    )
    forged = secp256k1.sign(bytes.fromhex(rich.chain.key[2:]), calldata.typed_data_digest(typed))
    rich.send(
        rich.address(1),
        rich.chain.settlement,
        calldata.withdraw(rich.address(1), 5 * IFM, 2**40, forged),
    )
    before = everything()
    followed = services.follow()
    assert followed.halted
    assert "withdrew 5000000000000000000 base units" in followed.reason
    assert everything()[1:] == before[1:]
    assert Cursor.objects.get().state == "halted"
    row.refresh_from_db()
    assert row.state == "open"
    services.resume(reason="Somebody hoped that it goes away.")
    assert services.follow().halted
    assert everything()[1:] == before[1:]


@pytest.mark.django_db(transaction=True)
def test_a_round_locks_the_accounts_of_ended_vouchers_in_the_same_order(
    rich: People, settings: Settings
) -> None:
    """Whoever moves money between the two accounts takes them in that order, too."""
    ended, credited = f"wallet:{rich.address(1)}", f"wallet:{rich.address(4)}"
    rich.deposit(4, IFM)
    services.follow()
    ids = dict(Account.objects.values_list("code", "pk"))
    assert ids[ended] < ids[credited]
    services.begin_withdrawal(rich.wallet(1), 4 * IFM)
    past_deadline(rich, settings)
    rich.deposit(4, IFM)

    def follow() -> Followed:
        try:
            return services.follow()
        finally:
            connection.close()

    lock = "SELECT id FROM ledger_account WHERE code = %s FOR NO KEY UPDATE NOWAIT"
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(settings.DATABASE_URL, dbname=connection.settings_dict["NAME"]) as other,
    ):
        other.execute(lock, [ended])
        round_ = pool.submit(follow)
        until = time.monotonic() + 30
        while not other.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY("
            "pg_blocking_pids(pid))"
        ).fetchone():
            assert time.monotonic() < until
            assert not round_.done()
        other.execute(lock, [credited])
        other.rollback()
        assert not round_.result(30).halted
    assert available(rich.address(1)) == 10 * IFM
    assert balance(rich.address(4)) == 2 * IFM
