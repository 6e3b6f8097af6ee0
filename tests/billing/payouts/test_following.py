"""From the chain into the books: once, confirmed, and never by a lie."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from billing.payouts import booking, following, queries, services
from billing.payouts.models import Cursor, Delegation, Event
from billing.payouts.signals import deposit_credited
from inframind.chain.answers import Log
from inframind.chain.client import ChainUnavailable
from inframind.chain.events import Happened
from tests.billing.payouts.acts import IFM, People, balance, cursor, everything

pytestmark = pytest.mark.django_db


def test_a_deposit_is_credited_after_its_confirmations(people: People, settings: Settings) -> None:
    settings.CHAIN_CONFIRMATIONS = 3
    services.follow()
    people.deposit(1, 5 * IFM)
    someone = people.address(1)
    assert services.follow().reason == ""
    assert balance(someone) == 0
    [waiting] = queries.deposits_of(someone)
    assert (waiting.is_credited, waiting.confirmations, waiting.needed) == (False, 1, 3)
    assert waiting.amount_base_units == 5 * IFM
    people.mine()
    services.follow()
    assert (balance(someone), queries.deposits_of(someone)[0].confirmations) == (0, 2)
    people.mine()
    services.follow()
    assert balance(someone) == 5 * IFM
    [credited] = queries.deposits_of(someone)
    assert (credited.is_credited, credited.confirmations) == (True, 3)


def test_a_deposit_for_another_is_the_others(people: People) -> None:
    people.deposit(1, IFM, account=people.address(2))
    services.follow()
    assert (balance(people.address(1)), balance(people.address(2))) == (0, IFM)
    assert Event.objects.get(kind="deposited").sender == people.address(1)


def test_several_rounds_and_gaps_credit_each_deposit_once(people: People) -> None:
    for number in range(1, 4):
        people.deposit(number, number * IFM)
        services.follow()
        services.follow()
    people.mine(700)  # more than one question's worth of blocks
    people.deposit(1, 10 * IFM)
    people.mine(5)
    followed = services.follow()
    assert followed.reason == ""
    assert balance(people.address(1)) == 11 * IFM
    assert balance(people.address(2)) == 2 * IFM
    assert services.follow().events == 0


def test_delegations_are_those_of_the_last_event(people: People) -> None:
    one, two = people.address(1), people.address(2)
    people.give(one, IFM)
    services.follow()
    assert Delegation.objects.get(address=one).delegate == one
    delegate = bytes.fromhex("5c19a95c") + bytes(12) + bytes.fromhex(two[2:])
    people.send(one, people.chain.ifm, delegate)
    services.follow()
    assert Delegation.objects.get(address=one).delegate == two


@pytest.mark.django_db(transaction=True)
def test_who_listens_is_told_once_it_is_in_the_books(people: People) -> None:
    told: list[dict[str, Any]] = []

    def listen(**news: Any) -> None:
        told.append({**news, "balance": balance(news["wallet"])})

    deposit_credited.connect(listen)
    try:
        people.deposit(1, IFM)
        services.follow()
        services.follow()
    finally:
        deposit_credited.disconnect(listen)
    assert [(each["wallet"], each["amount_base_units"], each["balance"]) for each in told] == [
        (people.address(1), IFM, IFM)
    ]


def test_a_shallow_reorganisation_leaves_no_trace(people: People, settings: Settings) -> None:
    settings.CHAIN_CONFIRMATIONS = 5
    people.mine(6)
    services.follow()
    people.deposit(1, IFM)
    services.follow()
    before = everything()
    people.chain.rpc("anvil_reorg", 3, [])
    assert services.follow().reason == ""
    people.mine(10)
    followed = services.follow()
    assert (followed.events, followed.halted) == (0, False)
    assert balance(people.address(1)) == 0
    after = everything()
    assert after[1:] == before[1:]


def test_a_deep_reorganisation_halts_crediting(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    assert balance(people.address(1)) == IFM
    people.chain.rpc("anvil_reorg", 2, [])
    people.mine(3)
    followed = services.follow()
    assert followed.halted
    assert "reorganisation" in followed.reason
    before = everything()
    people.deposit(2, 7 * IFM)
    people.mine(3)
    assert services.follow().halted
    assert everything() == before
    status = queries.chain_status()
    assert (status.is_halted, status.reason) == (True, followed.reason)


def test_resuming_takes_back_what_the_chain_took_back(people: People) -> None:
    people.deposit(1, IFM)
    services.follow()
    people.deposit(2, 2 * IFM)
    services.follow()
    people.chain.rpc("anvil_reorg", 2, [])
    people.mine(2)
    assert services.follow().halted
    resumed = services.resume(reason="Two blocks were replaced; the node is fine.")
    assert (resumed.undone, resumed.booked) == (1, 0)
    assert (balance(people.address(1)), balance(people.address(2))) == (IFM, 0)
    people.deposit(2, 3 * IFM)
    assert services.follow().reason == ""
    assert balance(people.address(2)) == 3 * IFM


def test_a_follower_that_dies_anywhere_books_everything_once(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies before and after each of the steps inside the transaction."""
    people.deposit(1, IFM)
    steps = [
        (booking, "event_of"),
        (booking, "book"),
        (booking, "expire"),
        (booking, "open_claims"),
        (Event.objects.__class__, "bulk_create"),
        (Cursor, "save"),
    ]
    services.follow()
    for position, (owner, name) in enumerate(steps, start=2):
        for dies_before in (True, False):
            people.deposit(position, IFM)
            before = everything()
            step = getattr(owner, name)

            def dying(
                *args: Any, step: Any = step, early: bool = dies_before, **kwargs: Any
            ) -> Any:
                if not early:
                    step(*args, **kwargs)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, dying)
                with pytest.raises(KeyboardInterrupt):
                    services.follow()
            assert everything() == before
            assert services.follow().reason == ""
        assert balance(people.address(position)) == 2 * IFM


@pytest.mark.django_db(transaction=True)
def test_followers_at_once_credit_once(people: People) -> None:
    def follow() -> str:
        try:
            return services.follow().reason
        finally:
            connection.close()

    for number in range(1, 4):
        people.deposit(number, IFM)
        with ThreadPoolExecutor(4) as pool:
            said = {future.result() for future in [pool.submit(follow) for _ in range(4)]}
        assert said <= {"", "another worker is following"}
    services.follow()
    assert [balance(people.address(number)) for number in range(1, 4)] == [IFM] * 3
    assert Event.objects.filter(kind="deposited").count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_followers_that_both_think_they_are_alone_credit_once(people: People) -> None:
    """The lock only spares work: without it the cursor's row decides."""
    services.follow()
    people.deposit(1, IFM)

    def follow(number: int) -> str:
        try:
            return following._round(people.contracts).reason
        except ChainUnavailable as error:
            return str(error)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(follow, range(4)))
    assert set(said) <= {"", "another worker has moved the cursor"}
    assert balance(people.address(1)) == IFM


def test_without_a_chain_nothing_happens(settings: Settings, people: People) -> None:
    settings.ETH_RPC_URL = ""
    assert "no chain is configured" in services.follow().reason
    assert cursor() is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [("CHAIN_ID", 1), ("SETTLEMENT_ADDRESS", "0x" + "11" * 20), ("IFM_ADDRESS", "nonsense")],
)
def test_settings_that_name_another_chain_or_contract_begin_nothing(
    people: People, settings: Settings, setting: str, value: Any
) -> None:
    people.deposit(1, IFM)
    setattr(settings, setting, value)
    assert services.follow().reason
    assert (cursor(), balance(people.address(1))) == (None, 0)


def test_what_the_contract_never_says_breaks_no_follower() -> None:
    """Deposits of nothing, or to nobody: the contract refuses them, and another might not."""
    for position, (account, amount) in enumerate(
        [("0x" + "00" * 20, 5), ("0x0000000000000000000000000000000000000001", 0)]
    ):
        log = Log("0x" + "22" * 20, (), b"", 1, "0x" + "aa" * 32, "0x" + "bb" * 32, position)
        told = {"account": account, "from": account, "amount": amount}
        happened = Happened("Deposited", told, log)
        row = booking.event_of(happened, booking.at(2**64))
        row.save()
        booking.book([booking.Seen(happened, row)], chain_time=booking.at(0))
    assert balance("0x" + "00" * 20) == 5
