"""A root is proposed once, challenged in time or not at all, and never promises too much."""

from __future__ import annotations

import pytest

from tests.billing.contracts.onchain import DAY, Contracts, Leaf, Tree, stream
from tests.chains import DevChain

NONE = b"\0" * 32


@pytest.fixture
def challenged(chain: DevChain) -> Contracts:
    """With a challenge time of a day, and 1000 units deposited."""
    contracts = Contracts.fresh(chain, challenge=DAY)
    contracts.fund(1000)
    return contracts


def leaf(chain: DevChain, amount: int) -> Leaf:
    return (chain.accounts[0].address, stream("model:one"), amount)


def propose(contracts: Contracts, epoch: int, *leaves: Leaf) -> Tree:
    tree = Tree(list(leaves))
    [event] = contracts.send("proposeRoot", epoch, tree.root, tree.total, f"ipfs://{epoch}")
    assert event == {
        "event": "RootProposed",
        "epoch": epoch,
        "root": tree.root,
        "total": tree.total,
        "uri": f"ipfs://{epoch}",
        "claimableAt": contracts.now + contracts.read("challengeSeconds"),
    }
    return tree


def test_without_a_challenge_time_a_root_is_claimable_in_its_own_block(
    contracts: Contracts, chain: DevChain
) -> None:
    contracts.fund(10)
    one = leaf(chain, 10)
    # Both transactions wait for the one block that takes them.
    chain.rpc("evm_setAutomine", False)
    tree = Tree([one])
    functions = contracts.settlement.functions
    sent = [
        call.transact({"from": contracts.operator, "gas": 500_000})
        for call in (
            functions.proposeRoot(1, tree.root, 10, "ipfs://1"),
            functions.claim(*one, tree.proof(one)),
        )
    ]
    chain.rpc("evm_mine")
    chain.rpc("evm_setAutomine", True)
    receipts = [contracts.web3.eth.get_transaction_receipt(each) for each in sent]
    assert [each["status"] for each in receipts] == [1, 1]
    assert receipts[0]["blockNumber"] == receipts[1]["blockNumber"]
    assert contracts.balance(one[0]) == 10


def test_nothing_is_claimed_early_and_the_root_before_stays_claimable_meanwhile(
    challenged: Contracts, chain: DevChain
) -> None:
    first, second = leaf(chain, 100), leaf(chain, 150)
    other = (chain.accounts[1].address, stream("model:two"), 30)
    old = propose(challenged, 1, first, other)
    at = challenged.read("claimableAt", 1)
    assert (challenged.read("rootEpoch"), challenged.read("pendingEpoch")) == (0, 1)
    assert (challenged.read("root"), challenged.read("pendingRoot")) == (NONE, old.root)
    assert challenged.read("total") == 0
    assert challenged.refuses("claim", *first, old.proof(first)) == ("InvalidProof", *first)
    challenged.at(at - 60)
    assert challenged.refuses("claim", *first, old.proof(first)) == ("InvalidProof", *first)
    challenged.at(at)
    assert (challenged.read("rootEpoch"), challenged.read("pendingEpoch")) == (1, 0)
    assert (challenged.read("root"), challenged.read("pendingRoot")) == (old.root, NONE)
    challenged.send("claim", *first, old.proof(first))

    new = propose(challenged, 2, second, other)
    assert (challenged.read("rootEpoch"), challenged.read("pendingEpoch")) == (1, 2)
    assert challenged.refuses("claim", *second, new.proof(second)) == ("InvalidProof", *second)
    challenged.send("claim", *other, old.proof(other))
    challenged.at(challenged.read("claimableAt", 2))
    challenged.send("claim", *second, new.proof(second))
    assert challenged.refuses("claim", *other, new.proof(other)) == ("NothingToClaim", *other)
    assert challenged.balance(first[0]) == 150
    assert challenged.balance(other[0]) == 30
    assert challenged.read("total") == 180
    assert challenged.read("held") == 1000 - 180


def test_a_revoked_root_never_pays_and_its_epoch_may_be_proposed_again(
    challenged: Contracts, chain: DevChain
) -> None:
    bad, good = leaf(chain, 999), leaf(chain, 100)
    wrong = propose(challenged, 1, bad)
    assert challenged.send("revokeRoot", 1) == [{"event": "RootRevoked", "epoch": 1}]
    assert challenged.read("rootOf", 1) == (NONE, 0, 0)
    assert challenged.read("claimableAt", 1) == 0
    assert challenged.read("pendingEpoch") == 0
    challenged.at(challenged.now + 2 * DAY)
    assert challenged.read("rootEpoch") == 0
    assert challenged.refuses("claim", *bad, wrong.proof(bad)) == ("InvalidProof", *bad)
    assert challenged.refuses("revokeRoot", 1) == ("NotRevocable", 1)

    right = propose(challenged, 1, good)
    assert challenged.read("rootOf", 1) == (right.root, 100, challenged.now + DAY)
    challenged.at(challenged.now + DAY)
    challenged.send("claim", *good, right.proof(good))
    assert challenged.balance(good[0]) == 100


def test_a_revoked_root_leaves_the_one_before_as_it_was(
    challenged: Contracts, chain: DevChain
) -> None:
    first = leaf(chain, 100)
    old = propose(challenged, 1, first)
    challenged.at(challenged.read("claimableAt", 1))
    propose(challenged, 2, leaf(chain, 900))
    challenged.send("revokeRoot", 2)
    assert challenged.read("root") == old.root
    # What the revoked root had promised is free again.
    voucher = challenged.voucher(chain.accounts[3].address, 900)
    challenged.send("withdraw", chain.accounts[3].address, 900, 2**40, voucher)
    challenged.send("claim", *first, old.proof(first))
    assert challenged.read("held") == 0


def test_only_the_pending_root_can_be_revoked_and_only_in_time(
    challenged: Contracts, chain: DevChain
) -> None:
    assert challenged.refuses("revokeRoot", 0) == ("NotRevocable", 0)
    assert challenged.refuses("revokeRoot", 1) == ("NotRevocable", 1)
    propose(challenged, 1, leaf(chain, 100))
    assert challenged.refuses("revokeRoot", 2) == ("NotRevocable", 2)
    challenged.at(challenged.read("claimableAt", 1))
    assert challenged.refuses("revokeRoot", 1) == ("NotRevocable", 1)
    propose(challenged, 2, leaf(chain, 100))
    assert challenged.refuses("revokeRoot", 1) == ("NotRevocable", 1)


def test_one_root_at_a_time(challenged: Contracts, chain: DevChain) -> None:
    tree = propose(challenged, 1, leaf(chain, 100))
    at = challenged.read("claimableAt", 1)
    for epoch in (1, 2):
        assert challenged.refuses("proposeRoot", epoch, tree.root, 100, "") == (
            "RootPending",
            1,
            at,
        )


def test_an_epoch_is_settled_once_and_never_after_a_later_one(
    contracts: Contracts, chain: DevChain
) -> None:
    contracts.fund(1000)
    tree = propose(contracts, 5, leaf(chain, 100))
    for epoch in (0, 1, 4, 5):
        assert contracts.refuses("proposeRoot", epoch, tree.root, 100, "") == (
            "EpochNotNewer",
            epoch,
            5,
        )
    propose(contracts, 6, leaf(chain, 100))
    assert contracts.read("rootOf", 5)[0] == tree.root


def test_epochs_begin_at_one(contracts: Contracts, chain: DevChain) -> None:
    assert contracts.refuses("proposeRoot", 0, b"\1" * 32, 0, "") == ("EpochNotNewer", 0, 0)


def test_a_root_promises_no_more_than_is_held(contracts: Contracts, chain: DevChain) -> None:
    contracts.fund(99)
    one = leaf(chain, 100)
    tree = Tree([one])
    assert contracts.refuses("proposeRoot", 1, tree.root, 100, "") == ("Underfunded", 100, 99)
    # Tokens that were only sent are nobody's, and pay for nothing.
    contracts.sent(contracts.ifm.functions.transfer(contracts.address, 50), contracts.operator)
    assert contracts.refuses("proposeRoot", 1, tree.root, 100, "") == ("Underfunded", 100, 99)
    contracts.fund(1)
    contracts.send("proposeRoot", 1, tree.root, 100, "")
    contracts.send("claim", *one, tree.proof(one))
    assert contracts.state() == {
        "tokens": 50,
        "totalDeposited": 100,
        "totalClaimed": 100,
        "totalWithdrawn": 0,
        "held": 0,
        "rootEpoch": 1,
    }


def test_what_was_claimed_needs_no_funds_a_second_time(
    contracts: Contracts, chain: DevChain
) -> None:
    contracts.fund(100)
    one = leaf(chain, 100)
    tree = propose(contracts, 1, one)
    contracts.send("claim", *one, tree.proof(one))
    assert contracts.refuses("proposeRoot", 2, tree.root, 101, "") == ("Underfunded", 1, 0)
    contracts.fund(1)
    propose(contracts, 2, leaf(chain, 101))


def test_a_total_never_falls_and_a_root_is_never_empty(
    contracts: Contracts, chain: DevChain
) -> None:
    contracts.fund(1000)
    tree = propose(contracts, 1, leaf(chain, 100))
    assert contracts.refuses("proposeRoot", 2, tree.root, 99, "") == ("TotalFell", 99, 100)
    assert contracts.refuses("proposeRoot", 2, NONE, 100, "") == ("ZeroRoot",)
    propose(contracts, 2, leaf(chain, 100))
