"""Deposits by the wallet, by permit, and from the faucet."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from billing.payouts import services
from billing.payouts.deposits import FAUCET_BASE_UNITS, FAUCET_WEI
from billing.payouts.models import FaucetGift, Transaction
from inframind.identity.models import Wallet
from inframind.lib import calldata, secp256k1
from inframind.lib.problem import Problem
from tests.billing.payouts.acts import IFM, People, balance, sign

pytestmark = pytest.mark.django_db
FRESH = "0x00000000000000000000000000000000000000a1"


def code_of(refused: pytest.ExceptionInfo[Problem]) -> tuple[int, str]:
    return refused.value.status, refused.value.code


def permit(people: People, number: int, document: dict[str, Any]) -> bytes:
    digest = calldata.typed_data_digest(document)
    return secp256k1.sign(bytes(people.chain.accounts[number].key), digest)


def rounds() -> None:
    services.send_due()
    services.send_due()
    services.follow()


def test_a_wallet_deposits_with_what_it_was_handed(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    made = services.unsigned_deposit(people.wallet(1), 2 * IFM)
    assert [each.what for each in made] == [
        "Let the settlement contract take 2 IFM",
        f"Deposit 2 IFM for {people.address(1)}",
    ]
    assert [each.nonce for each in made] == [made[0].nonce, made[0].nonce + 1]
    assert calldata.read(made[1].data) == calldata.Call(
        "deposit", {"account": people.address(1), "amount": 2 * IFM}
    )
    for each in made:
        assert people.status(people.send_unsigned(1, each)) == 1
    services.follow()
    assert balance(people.address(1)) == 2 * IFM


def test_no_approval_is_asked_for_where_there_is_one(people: People) -> None:
    one = people.address(1)
    people.give(one, 5 * IFM)
    people.send(one, people.chain.ifm, calldata.approve(people.chain.settlement, 3 * IFM))
    [made] = services.unsigned_deposit(people.wallet(1), 3 * IFM)
    assert made.to == people.chain.settlement
    assert len(services.unsigned_deposit(people.wallet(1), 3 * IFM + 1)) == 2


def test_a_permit_is_sent_for_the_wallet(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    wallet = people.wallet(1)
    document = services.permit_for(wallet, 2 * IFM)
    signature = permit(people, 1, document)
    deadline = int(document["message"]["deadline"])
    row = services.relay_deposit(wallet, 2 * IFM, deadline, signature)
    assert services.relay_deposit(wallet, 2 * IFM, deadline, signature).pk == row.pk
    rounds()
    row.refresh_from_db()
    assert row.state == "confirmed"
    assert balance(people.address(1)) == 2 * IFM
    assert services.relay_deposit(wallet, 2 * IFM, deadline, signature).pk == row.pk
    rounds()
    assert balance(people.address(1)) == 2 * IFM


def test_a_permit_of_another_wallet_amount_or_time_is_refused(people: People) -> None:
    people.give(people.address(1), 5 * IFM)
    people.give(people.address(2), 5 * IFM)
    wallet = people.wallet(1)
    document = services.permit_for(wallet, 2 * IFM)
    deadline = int(document["message"]["deadline"])
    good = permit(people, 1, document)
    for signature, amount, until in (
        (permit(people, 2, document), 2 * IFM, deadline),
        (good, 3 * IFM, deadline),
        (good, 2 * IFM, deadline + 1),
        (good[:64], 2 * IFM, deadline),
        (bytes(65), 2 * IFM, deadline),
        (good, 2 * IFM, 2**256),
    ):
        with pytest.raises(Problem) as refused:
            services.relay_deposit(wallet, amount, until, signature)
        assert code_of(refused) == (422, "permit-refused")
    people.chain.rpc("evm_increaseTime", 4000)
    people.mine()
    with pytest.raises(Problem) as refused:
        services.relay_deposit(wallet, 2 * IFM, deadline, good)
    assert code_of(refused) == (409, "permit-expired")
    assert not Transaction.objects.exists()


def test_more_than_the_wallet_has_is_refused_at_once(people: People) -> None:
    people.give(people.address(1), IFM)
    for ask in (services.unsigned_deposit, services.permit_for):
        with pytest.raises(Problem) as refused:
            ask(people.wallet(1), IFM + 1)
        assert code_of(refused) == (409, "too-little-ifm")
        assert "1 IFM" in refused.value.detail


@pytest.mark.parametrize("amount", [0, -1, 2**256, 10**400])
def test_what_is_no_amount_is_refused(people: People, amount: int) -> None:
    for ask in (services.unsigned_deposit, services.permit_for, services.begin_withdrawal):
        with pytest.raises(Problem) as refused:
            ask(people.wallet(1), amount)
        assert code_of(refused) == (422, "amount-refused")


@pytest.mark.django_db(transaction=True)
def test_relays_are_counted_by_wallet_and_day(people: People, settings: Settings) -> None:
    settings.RELAYS_PER_DAY = 3
    people.give(people.address(1), 100 * IFM)
    wallet = people.wallet(1)
    asked = []
    waits: list[int] = []
    for amount in range(1, 8):
        document = services.permit_for(wallet, amount)
        deadline = int(document["message"]["deadline"])
        asked.append((amount, deadline, permit(people, 1, document)))

    def relay(one: tuple[int, int, bytes]) -> str:
        try:
            services.relay_deposit(wallet, *one)
        except Problem as problem:
            waits.append(problem.retry_after_seconds or 0)
            return f"{problem.status} {problem.code}"
        finally:
            connection.close()
        return "queued"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(relay, asked))
    assert said == ["429 too-many-relays"] * 4 + ["queued"] * 3
    assert min(waits) > 80_000
    oldest = Transaction.objects.earliest("created_at")
    Transaction.objects.filter(pk=oldest.pk).update(
        created_at=oldest.created_at - timedelta(days=1)
    )
    assert [relay(one) for one in asked].count("queued") == 4
    assert Transaction.objects.count() == 4


@pytest.mark.django_db(transaction=True)
def test_relays_of_all_wallets_together_are_counted(people: People, settings: Settings) -> None:
    settings.RELAYS_PER_DAY_IN_ALL = 3
    asked = []
    for number in range(1, 7):
        people.give(people.address(number), IFM)
        document = services.permit_for(people.wallet(number), IFM)
        deadline = int(document["message"]["deadline"])
        asked.append((people.wallet(number), IFM, deadline, permit(people, number, document)))
    refusals: list[Problem] = []

    def relay(one: tuple[Wallet, int, int, bytes]) -> str:
        try:
            services.relay_deposit(*one)
        except Problem as problem:
            refusals.append(problem)
            return f"{problem.status} {problem.code}"
        finally:
            connection.close()
        return "queued"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(relay, asked))
    assert said == ["429 relays-used-up"] * 3 + ["queued"] * 3
    assert min(each.retry_after_seconds or 0 for each in refusals) > 80_000
    assert all("without --relay" in each.remedy for each in refusals)
    assert Transaction.objects.count() == 3
    services.unsigned_deposit(people.wallet(6), IFM)


def test_what_failed_and_is_sent_again_counts_again(people: People, settings: Settings) -> None:
    """A deposit can be made to fail and asked for again, and each time costs us the gas."""
    settings.RELAYS_PER_DAY = 3
    people.give(people.address(1), 100 * IFM)
    wallet = people.wallet(1)
    document = services.permit_for(wallet, IFM)
    signed = IFM, int(document["message"]["deadline"]), permit(people, 1, document)
    said = []
    for sent in range(1, 5):
        try:
            row = services.relay_deposit(wallet, *signed)
        except Problem as problem:
            said.append(problem.code)
            continue
        said.append(row.state)
        long_ago = row.created_at - timedelta(days=2)
        Transaction.objects.filter(pk=row.pk).update(
            state="failed", attempts=sent, sent_at=datetime.now(UTC), created_at=long_ago
        )
    assert said == ["queued"] * 3 + ["too-many-relays"]


def test_the_faucet_gives_ifm_and_gas_once_an_hour(people: People) -> None:
    wallet = Wallet.objects.of(FRESH)
    services.faucet(wallet)
    with pytest.raises(Problem) as refused:
        services.faucet(wallet)
    assert code_of(refused) == (429, "faucet-rests")
    assert 0 < (refused.value.retry_after_seconds or 0) <= 3_600
    rounds()
    assert people.ifm_of(wallet.address) == FAUCET_BASE_UNITS
    assert people.client.balance_of(wallet.address) == FAUCET_WEI
    gift = FaucetGift.objects.get()
    gift.created_at -= timedelta(hours=1)
    gift.save()
    services.faucet(wallet)
    rounds()
    assert people.ifm_of(wallet.address) == 2 * FAUCET_BASE_UNITS
    assert people.client.balance_of(wallet.address) == FAUCET_WEI


@pytest.mark.django_db(transaction=True)
def test_many_at_the_faucet_at_once_get_one_gift(people: People) -> None:
    wallet = Wallet.objects.of(FRESH)

    def ask(_: int) -> str:
        try:
            services.faucet(wallet)
        except Problem as problem:
            return problem.code
        finally:
            connection.close()
        return "given"

    with ThreadPoolExecutor(4) as pool:
        said = sorted(pool.map(ask, range(6)))
    assert said == ["faucet-rests"] * 5 + ["given"]


def test_there_is_no_faucet_on_a_real_chain(people: People, settings: Settings) -> None:
    settings.FAUCET = False
    with pytest.raises(Problem) as refused:
        services.faucet(people.wallet(1))
    assert code_of(refused) == (404, "not-found")


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9"])
def test_without_a_chain_everything_says_so_and_loses_nothing(
    people: People, settings: Settings, url: str
) -> None:
    people.deposit(1, IFM)
    services.follow()
    people.give(people.address(1), IFM)
    wallet = people.wallet(1)
    raw = sign(services.unsigned_deposit(wallet, IFM)[0], people.chain.accounts[1].key)
    settings.ETH_RPC_URL = url
    for ask in (
        lambda: services.unsigned_deposit(wallet, IFM),
        lambda: services.permit_for(wallet, IFM),
        lambda: services.relay_deposit(wallet, IFM, 2**40, bytes(65)),
        lambda: services.begin_withdrawal(wallet, IFM),
        lambda: services.unsigned_claim(wallet),
        lambda: services.relay_claim(wallet),
        lambda: services.relay_signed(wallet, raw),
        lambda: services.faucet(wallet),
    ):
        with pytest.raises(Problem) as refused:
            ask()
        assert code_of(refused) == (503, "chain-unavailable")
        assert refused.value.retry_safe
    assert balance(people.address(1)) == IFM
    assert not Transaction.objects.exists()
