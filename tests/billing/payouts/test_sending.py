"""Our own transactions: each once, whatever ends in between."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, connection
from eth_utils.crypto import keccak
from pytest_django import Settings

from billing.epochs.models import Epoch
from billing.payouts import queueing, sending, services
from billing.payouts.models import Cursor, Event, Transaction
from inframind.chain.client import Chain, ChainUnavailable
from inframind.lib import calldata
from inframind.lib.problem import Problem
from tests.billing.contracts.onchain import Contracts
from tests.billing.epochs.keeper import Keeper
from tests.billing.payouts.acts import IFM, People, sealed_epoch

pytestmark = pytest.mark.django_db

OWNER, OPERATOR = "0x" + "01" * 20, "0x" + "02" * 20


@pytest.fixture
def epoch(people: People, keeper: Keeper) -> Epoch:
    """A sealed epoch with a root that nobody has proposed yet."""
    people.deposit(1, 100 * IFM)
    services.follow()
    return sealed_epoch(people.address(1), OWNER, OPERATOR, IFM, calls=3)


@pytest.fixture
def by_hand(people: People) -> Iterator[None]:
    """Blocks are mined when the test says so."""
    people.chain.rpc("evm_setAutomine", False)
    base_fee = people.chain.rpc("eth_getBlockByNumber", "pending", False)["baseFeePerGas"]
    yield
    people.chain.rpc("anvil_dropAllTransactions")
    # The node's next base fee is no part of what is undone after the test.
    people.chain.rpc("anvil_setNextBlockBaseFeePerGas", base_fee)
    people.chain.rpc("evm_setAutomine", True)


def queued(people: People, key: str = "test:1", amount: int = IFM) -> Transaction:
    return queueing.enqueue(
        key=key, to=people.chain.ifm, data=calldata.transfer(people.address(9), amount)
    )


def states() -> list[tuple[str, str]]:
    return list(Transaction.objects.order_by("created_at").values_list("key", "state"))


def test_a_sealed_root_is_proposed_and_becomes_claimable(people: People, epoch: Epoch) -> None:
    [row] = services.publish_due()
    assert row.key == f"root:{epoch.number}:0x{bytes(epoch.root or b'').hex()}"
    assert services.send_due().sent == 1
    assert services.send_due().ended == 1
    row.refresh_from_db()
    assert (row.state, row.mined_hash, row.attempts) == ("confirmed", row.hashes[0], 1)
    services.follow()
    epoch.refresh_from_db()
    assert epoch.state == "claimable"
    assert epoch.proposed_at is not None
    assert epoch.claimable_at == epoch.proposed_at
    proposed = people.contracts.root_of(epoch.number)
    assert (proposed.root, proposed.total) == (
        bytes(epoch.root or b""),
        int(epoch.total_base_units),
    )
    assert services.publish_due() == []
    assert people.roots() == [epoch.number]


def test_a_transaction_is_confirmed_after_its_confirmations(
    people: People, settings: Settings
) -> None:
    settings.CHAIN_CONFIRMATIONS = 3
    row = queued(people)
    services.send_due()
    for expected in ("mined", "mined", "confirmed"):
        services.send_due()
        row.refresh_from_db()
        assert row.state == expected
        people.mine()


def test_a_transfer_estimated_within_a_block_has_gas_for_the_next_one(people: People) -> None:
    """Votes are counted by block: the same transfer costs more in a block that begins with it."""
    queued(people, "test:before")
    people.chain.rpc("evm_setAutomine", False)
    try:
        assert services.send_due().sent == 1
        row = queued(people, "test:after")
        assert services.send_due().sent == 1
        people.chain.rpc("evm_mine")
    finally:
        people.chain.rpc("evm_setAutomine", True)
    row.refresh_from_db()
    receipt = people.chain.rpc("eth_getTransactionReceipt", row.hashes[0])
    assert receipt["status"] == "0x1"
    assert row.gas is not None
    # What is left is more than the two checkpoints that another block adds.
    assert row.gas - int(receipt["gasUsed"], 16) > 50_000


def test_rows_are_sent_in_order_with_nonces_of_their_own(people: People) -> None:
    people.give(people.address(8), 1)  # somebody uses the key besides
    rows = [queued(people, f"test:{number}") for number in range(5)]
    assert services.send_due().sent == 5
    services.send_due()
    for row in rows:
        row.refresh_from_db()
    nonces = [row.nonce for row in rows]
    assert nonces == list(range(nonces[0] or 0, (nonces[0] or 0) + 5))
    assert {row.state for row in rows} == {"confirmed"}
    assert people.ifm_of(people.address(9)) == 5 * IFM


def test_a_refusal_of_the_contract_fails_the_row_in_words(people: People) -> None:
    row = queueing.enqueue(
        key="test:claim",
        to=people.chain.settlement,
        data=calldata.claim_many([(OWNER, b"\1" * 32, 5, [])]),
    )
    good = queued(people)
    services.send_due()
    row.refresh_from_db()
    good.refresh_from_db()
    assert (row.state, row.nonce, row.hashes) == ("failed", None, [])
    assert "InvalidProof" in row.reason
    assert good.state == "sent"


def test_what_fails_on_chain_says_why(people: People, by_hand: None) -> None:
    """It is good when it is estimated, and no longer when it is mined."""
    people.chain.rpc("evm_setAutomine", True)
    people.deposit(1, IFM)
    services.follow()
    people.chain.rpc("evm_setAutomine", False)
    withdrawal = services.begin_withdrawal(people.wallet(1), IFM)
    row = services.relay_withdrawal(withdrawal)
    services.send_due()
    pause = bytes.fromhex("8456cb59")
    people.send(
        people.chain.operator.address, people.chain.settlement, pause,
        nonce=hex(people.client.nonce_of(people.chain.operator.address)),
        maxFeePerGas=hex(10**12), maxPriorityFeePerGas=hex(10**12),
    )  # fmt: skip
    people.mine()
    services.send_due(stuck_seconds=0)
    people.mine()
    for _ in range(3):
        services.send_due(stuck_seconds=0)
        people.mine()
    row.refresh_from_db()
    assert row.state == "failed"
    assert "EnforcedPause" in row.reason


def test_a_stuck_nonce_is_sent_for_more(people: People, by_hand: None) -> None:
    row = queued(people)
    services.send_due()
    row.refresh_from_db()
    first = row.hashes[0]
    low, tip = int(row.max_fee_wei or 0), int(row.priority_fee_wei or 0)
    people.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(low + 10**9))
    people.mine()
    services.send_due()
    row.refresh_from_db()
    assert (row.state, row.hashes) == ("sent", [first])
    people.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(low + 10**9))
    assert services.send_due(stuck_seconds=0).bumped == 1
    row.refresh_from_db()
    assert len(row.hashes) == 2
    assert int(row.max_fee_wei or 0) * 8 >= low * 9
    assert int(row.priority_fee_wei or 0) * 8 >= tip * 9
    people.mine()
    services.send_due(stuck_seconds=0)
    services.send_due()
    row.refresh_from_db()
    assert (row.state, row.mined_hash) == ("confirmed", row.hashes[1])
    assert people.ifm_of(people.address(9)) == IFM


def test_only_the_first_of_those_that_wait_is_bumped(people: People, by_hand: None) -> None:
    first, second = queued(people, "test:1"), queued(people, "test:2")
    services.send_due()
    assert services.send_due(stuck_seconds=0).bumped == 1
    first.refresh_from_db()
    second.refresh_from_db()
    assert (len(first.hashes), len(second.hashes)) == (2, 1)


def test_what_the_node_forgot_is_sent_again_as_it_was(people: People, by_hand: None) -> None:
    row = queued(people)
    services.send_due()
    people.chain.rpc("anvil_dropAllTransactions")
    services.send_due()
    row.refresh_from_db()
    assert len(row.hashes) == 1
    people.mine()
    services.send_due()
    row.refresh_from_db()
    assert (row.state, row.mined_hash) == ("confirmed", row.hashes[0])


def test_a_transaction_that_a_reorganisation_took_back_is_sent_again(
    people: People, settings: Settings
) -> None:
    settings.CHAIN_CONFIRMATIONS = 4
    row = queued(people)
    services.send_due()
    people.mine()
    services.send_due()
    row.refresh_from_db()
    assert row.state == "mined"
    people.chain.rpc("anvil_reorg", 2, [])
    services.send_due()
    row.refresh_from_db()
    assert row.state in ("sent", "mined")
    people.mine(5)
    services.send_due()
    services.send_due()
    people.mine(5)
    services.send_due()
    row.refresh_from_db()
    assert (row.state, len(row.hashes)) == ("confirmed", 1)
    assert people.ifm_of(people.address(9)) == IFM


def test_a_nonce_that_somebody_else_used_is_given_up(people: People, by_hand: None) -> None:
    row = queued(people)
    services.send_due()
    row.refresh_from_db()
    stolen = row.nonce
    people.chain.rpc("anvil_dropAllTransactions")
    people.send(
        people.chain.operator.address,
        people.chain.ifm,
        calldata.transfer(people.address(8), 1),
        nonce=hex(stolen or 0),
    )
    people.mine()
    services.send_due()
    services.send_due()
    people.mine()
    services.send_due()
    row.refresh_from_db()
    assert row.state == "confirmed"
    assert row.nonce == (stolen or 0) + 1
    assert len(row.hashes) == 2
    assert people.ifm_of(people.address(9)) == IFM


def test_a_gap_before_ours_is_filled(people: People, by_hand: None) -> None:
    """Somebody else's transaction by our key came first, and the node lost it."""
    count = people.client.nonce_of(people.chain.operator.address)
    row = queued(people)
    row.state, row.sent_at = "sent", row.created_at
    row.nonce, row.gas = count + 2, 300_000
    row.max_fee_wei, row.priority_fee_wei = 10**11, 10**9
    row.hashes = [sending._Round(people.contracts, 60)._signed(row).hash]
    row.save()
    services.send_due(stuck_seconds=0)
    people.mine()
    for _ in range(2):
        services.send_due(stuck_seconds=0)
        people.mine()
    services.send_due()
    row.refresh_from_db()
    assert row.state == "confirmed"
    filled = Transaction.objects.filter(key__startswith="gap:")
    assert sorted(filled.values_list("nonce", "state")) == [
        (count, "confirmed"),
        (count + 1, "confirmed"),
    ]


class Death(BaseException):
    """What no handler of ours catches, as SIGKILL."""


STEPS: list[tuple[Any, str]] = [
    (queueing, "enqueue"),
    (sending._Round, "_send_first"),
    (sending._Round, "_write_and_send"),
    (sending._Round, "_leave"),
    (Chain, "send"),
    (sending._Round, "_note_mined"),
    (Transaction, "save"),
]


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("dies_before", [True, False], ids=["before", "after"])
def test_a_sender_that_dies_at_any_step_settles_an_epoch_once(
    people: People,
    epoch: Epoch,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    dies_before: bool,
) -> None:
    step = getattr(owner, name)

    def dying(*args: Any, **kwargs: Any) -> Any:
        if not dies_before:
            step(*args, **kwargs)
        raise Death

    def everything() -> None:
        services.publish_due()
        services.send_due()
        services.send_due()
        services.follow()

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Death):
            everything()
    for _ in range(2):
        everything()
    epoch.refresh_from_db()
    assert (epoch.state, people.roots()) == ("claimable", [epoch.number])
    assert [state for _, state in states()] == ["confirmed"]


@pytest.mark.django_db(transaction=True)
def test_publishers_and_senders_at_once_settle_an_epoch_once(
    people: People, committed_keeper: Keeper
) -> None:
    people.deposit(1, 100 * IFM)
    services.follow()
    epoch = sealed_epoch(people.address(1), OWNER, OPERATOR, IFM, calls=3)

    def round_of(number: int) -> None:
        try:
            services.publish_root(epoch.number)
            services.publish_due()
            services.send_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(round_of, range(8)))
    for _ in range(2):
        services.send_due()
    assert people.roots() == [epoch.number]
    assert [state for _, state in states()] == ["confirmed"]


@pytest.mark.django_db(transaction=True)
def test_two_senders_that_both_think_they_are_alone_send_once(people: People) -> None:
    """The lock only spares work: without it rows and their constraint decide."""
    for number in range(3):
        queued(people, f"test:{number}")

    def send(_: int) -> None:
        try:
            sending._Round(people.contracts, 60).run()
        except (ChainUnavailable, IntegrityError):
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(send, range(6)))
    for _ in range(3):
        services.send_due()
    assert [state for _, state in states()] == ["confirmed"] * 3
    assert people.ifm_of(people.address(9)) == 3 * IFM


def test_a_revoked_root_waits_for_a_person(
    people: People, epoch: Epoch, keeper: Keeper, settings: Settings
) -> None:
    slow = Contracts.fresh(people.chain, challenge=3600)
    settings.SETTLEMENT_ADDRESS, settings.IFM_ADDRESS = slow.address, slow.ifm_address
    settings.SETTLEMENT_BLOCK = people.client.head().number
    Event.objects.all().delete()
    Cursor.objects.all().delete()
    operator = people.chain.operator.address
    people.send(operator, slow.ifm_address, calldata.approve(slow.address, 100 * IFM))
    people.send(operator, slow.address, calldata.deposit(people.address(2), 100 * IFM))
    services.publish_due()
    services.send_due()
    services.follow()
    epoch.refresh_from_db()
    assert epoch.state == "proposed"
    revoke = bytes(keccak(text="revokeRoot(uint64)"))[:4] + epoch.number.to_bytes(32, "big")
    people.send(operator, slow.address, revoke)
    services.send_due()
    services.follow()
    epoch.refresh_from_db()
    assert (epoch.state, epoch.claimable_at) == ("sealed", None)
    assert services.publish_due() == []
    row = services.publish_root(epoch.number)
    assert row.state == "queued"
    services.send_due()
    services.send_due()
    people.chain.rpc("evm_increaseTime", 4000)
    people.mine()
    services.follow()
    epoch.refresh_from_db()
    assert epoch.state == "claimable"


def test_asking_twice_for_a_root_is_asking_once(people: People, epoch: Epoch) -> None:
    first = services.publish_root(epoch.number)
    assert services.publish_root(epoch.number).pk == first.pk
    services.send_due()
    services.send_due()
    assert services.publish_root(epoch.number).state == "confirmed"
    assert len(states()) == 1


@pytest.mark.parametrize(("number", "status"), [(999, 404), (2, 409)])
def test_a_root_that_is_none_is_refused(
    people: People, epoch: Epoch, number: int, status: int
) -> None:
    with pytest.raises(Problem) as refused:
        services.publish_root(number)
    assert refused.value.status == status


def test_a_node_that_is_down_leaves_rows_as_they_are(people: People, settings: Settings) -> None:
    row = queued(people)
    url, settings.ETH_RPC_URL = settings.ETH_RPC_URL, "http://127.0.0.1:9"
    assert services.send_due().reason
    row.refresh_from_db()
    assert (row.state, row.nonce) == ("queued", None)
    settings.ETH_RPC_URL = url
    assert services.send_due().sent == 1


def test_nothing_new_is_sent_while_crediting_is_halted(people: People) -> None:
    services.follow()
    Cursor.objects.update(state="halted", reason="a test")
    row = queued(people)
    assert services.send_due().reason == "crediting is halted"
    row.refresh_from_db()
    assert row.state == "queued"
