"""Earnings are claimed by the wallet or at our expense, each once."""

from __future__ import annotations

import pytest
from pytest_django import Settings

from billing.epochs.models import Epoch
from billing.ledger import queries as ledger
from billing.payouts import queries, services
from billing.payouts.claims import claimable, claimable_epoch
from billing.payouts.models import Event
from inframind.lib import calldata, merkle
from inframind.lib.problem import Problem
from tests.billing.epochs.keeper import Keeper
from tests.billing.payouts.acts import IFM, People, sealed_epoch

pytestmark = pytest.mark.django_db
PAYER, OWNER, OPERATOR = 1, 2, 3


@pytest.fixture
def earned(people: People, keeper: Keeper) -> People:
    """Ten calls at one IFM are paid for, and the root of their epoch is claimable."""
    people.deposit(PAYER, 100 * IFM)
    services.follow()
    epoch_of_calls(people)
    return people


def epoch_of_calls(people: People) -> Epoch:
    epoch = sealed_epoch(
        people.address(PAYER), people.address(OWNER), people.address(OPERATOR), IFM, calls=10
    )
    services.publish_due()
    rounds()
    epoch.refresh_from_db()
    assert epoch.state == "claimable"
    return epoch


def rounds() -> None:
    services.send_due()
    services.send_due()
    services.follow()


def owed(people: People, number: int, stream: bytes) -> int:
    return ledger.posted_of(f"owed:{people.address(number)}:0x{stream.hex()}")


def test_a_wallet_claims_by_itself(earned: People) -> None:
    owner = earned.wallet(OWNER)
    [line] = claimable(owner.address)
    assert (line.subject, line.amount_base_units) == ("model:summarizer-v1", 6 * IFM)
    [made] = services.unsigned_claim(owner)
    assert made.what == "Claim 6 IFM from 1 stream"
    assert owed(earned, OWNER, line.stream) == 6 * IFM
    assert earned.status(earned.send_unsigned(OWNER, made)) == 1
    with pytest.raises(Problem) as refused:
        services.unsigned_claim(owner)  # not confirmed, and paid all the same
    assert (refused.value.status, refused.value.code) == (409, "nothing-to-claim")
    services.follow()
    assert earned.ifm_of(owner.address) == 6 * IFM
    assert owed(earned, OWNER, line.stream) == 0
    assert queries.claims_of(owner.address) == {"0x" + line.stream.hex(): 6 * IFM}
    assert claimable(owner.address) == []


def test_a_claim_is_sent_for_a_wallet_once(earned: People) -> None:
    operator = earned.wallet(OPERATOR)
    row = services.relay_claim(operator)
    assert services.relay_claim(operator).pk == row.pk
    rounds()
    row.refresh_from_db()
    assert row.state == "confirmed"
    assert earned.ifm_of(operator.address) == 3 * IFM
    with pytest.raises(Problem) as refused:
        services.relay_claim(operator)
    assert refused.value.code == "nothing-to-claim"


def test_the_next_epoch_pays_what_it_added(earned: People) -> None:
    owner = earned.wallet(OWNER)
    services.relay_claim(owner)
    rounds()
    epoch_of_calls(earned)
    assert claimable_epoch() == 2
    [line] = claimable(owner.address)
    assert (line.cumulative_base_units, line.amount_base_units) == (12 * IFM, 6 * IFM)
    services.relay_claim(owner)
    rounds()
    assert earned.ifm_of(owner.address) == 12 * IFM
    assert [int(e.amount_base_units) for e in Event.objects.filter(kind="claimed")] == [
        6 * IFM,
        6 * IFM,
    ]


def test_streams_are_named_or_all_are_meant(earned: People) -> None:
    owner = earned.wallet(OWNER)
    [line] = claimable(owner.address)
    assert claimable(owner.address, [line.stream]) == [line]
    assert claimable(owner.address, [b"\7" * 32]) == []
    with pytest.raises(Problem):
        services.unsigned_claim(owner, [b"\7" * 32])
    [made] = services.unsigned_claim(owner, [line.stream])
    [claim] = calldata.read(made.data).arguments["claims"]
    assert claim[:3] == (owner.address, line.stream, 6 * IFM)


def test_nobody_else_has_anything_to_claim(earned: People) -> None:
    with pytest.raises(Problem) as refused:
        services.relay_claim(earned.wallet(5))
    assert refused.value.code == "nothing-to-claim"


def test_a_claim_by_a_foreign_root_halts_crediting(earned: People) -> None:
    """The proposer's key was stolen: its root pays what nobody is owed, and we stop."""
    thief = earned.address(6)
    leaf = merkle.leaf_of(thief, b"\1" * 32, 5 * IFM)
    operator = earned.chain.operator.address
    earned.send(
        operator,
        earned.chain.settlement,
        calldata.propose_root(9, leaf, 14 * IFM, "nowhere"),
    )
    assert not services.follow().halted
    assert not Epoch.objects.filter(number=9).exists()
    earned.send(thief, earned.chain.settlement, calldata.claim(thief, b"\1" * 32, 5 * IFM, []))
    followed = services.follow()
    assert followed.halted
    assert "more than was earned" in followed.reason
    assert not Event.objects.filter(account=thief, kind="claimed").exists()


def test_a_root_that_is_ahead_of_the_books_gives_its_own_proofs(
    earned: People, settings: Settings
) -> None:
    """The contract pays by the newest root as soon as it can, confirmed or not."""
    settings.CHAIN_CONFIRMATIONS = 3
    earned.mine(3)
    services.follow()
    sealed_epoch(
        earned.address(PAYER), earned.address(OWNER), earned.address(OPERATOR), IFM, calls=5
    )
    services.publish_due()
    services.send_due()
    assert claimable_epoch() == 1
    [made] = services.unsigned_claim(earned.wallet(OWNER))
    [claim] = calldata.read(made.data).arguments["claims"]
    assert claim[2] == 9 * IFM
    assert earned.status(earned.send_unsigned(OWNER, made)) == 1
