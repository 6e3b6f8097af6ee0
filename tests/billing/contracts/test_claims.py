"""Earnings go out once, to whom they belong, by a proof against the claimable root."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.processes import Children
from tests.billing.contracts.onchain import Contracts, Leaf, Tree, inner_hash, stream
from tests.chains import DevChain

ONE = 10**18
MODEL = stream("model:summarizer-v1")
NODE = stream("node:node-a")


@pytest.fixture
def leaves(chain: DevChain) -> list[Leaf]:
    first, second = chain.accounts[0].address, chain.accounts[1].address
    return [(first, MODEL, 3 * ONE), (first, NODE, 7), (second, MODEL, 2 * ONE), (second, NODE, 1)]


@pytest.fixture
def tree(contracts: Contracts, leaves: list[Leaf]) -> Tree:
    """Funded to the last unit, and claimable."""
    tree = Tree(leaves)
    contracts.fund(tree.total)
    contracts.send("proposeRoot", 1, tree.root, tree.total, "ipfs://tree")
    return tree


def test_every_proof_of_the_javascript_library_pays_once(
    contracts: Contracts, chain: DevChain, tmp_path: Path
) -> None:
    leaves = [
        (chain.accounts[index % 7].address, stream(f"model:{index}"), 10**12 + index)
        for index in range(41)
    ]
    children = Children(tmp_path / "log")
    try:
        tools = ensure_chain_tools(children, say=print)
    finally:
        children.close()
    made = subprocess.run(
        [str(tools.node), str(Path(__file__).with_name("tree.cjs")), str(tools.modules)],
        input=json.dumps([[account, f"0x{id_.hex()}", str(sum_)] for account, id_, sum_ in leaves]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    library = json.loads(made.stdout)
    total = sum(amount for *_, amount in leaves)
    contracts.fund(total)
    contracts.send("proposeRoot", 1, library["root"], total, "ipfs://tree")

    for leaf, proof in zip(leaves, library["proofs"], strict=True):
        before = contracts.balance(leaf[0])
        events = contracts.send("claim", *leaf, proof, sender=chain.accounts[9].address)
        assert events == [
            {
                "event": "Claimed",
                "account": leaf[0],
                "stream": leaf[1],
                "amount": leaf[2],
                "cumulative": leaf[2],
            }
        ]
        assert contracts.balance(leaf[0]) == before + leaf[2]
        assert contracts.read("claimed", leaf[0], leaf[1]) == leaf[2]

    assert library["root"] == f"0x{Tree(leaves).root.hex()}"
    assert contracts.state() == {
        "tokens": 0,
        "totalDeposited": total,
        "totalClaimed": total,
        "totalWithdrawn": 0,
        "held": 0,
        "rootEpoch": 1,
    }
    for leaf, proof in zip(leaves[:3], library["proofs"], strict=False):
        assert contracts.refuses("claim", *leaf, proof) == ("NothingToClaim", *leaf)


def test_a_proof_fits_its_account_its_stream_and_its_amount_alone(
    contracts: Contracts, chain: DevChain, tree: Tree, leaves: list[Leaf]
) -> None:
    account, id_, amount = leaves[0]
    proof = tree.proof(leaves[0])
    stranger = chain.accounts[5].address
    for wrong in (
        (stranger, id_, amount),
        (account, NODE, amount),
        (account, stream("model:another"), amount),
        (account, id_, amount + 1),
        (account, id_, amount - 1),
        (account, id_, 0),
        (account, id_, 2**256 - 1),
    ):
        assert contracts.refuses("claim", *wrong, proof) == ("InvalidProof", *wrong)
    for wrong_proof in ([], proof[:-1], proof[::-1], [*proof, b"\0" * 32], tree.proof(leaves[1])):
        assert contracts.refuses("claim", *leaves[0], wrong_proof) == ("InvalidProof", *leaves[0])
    contracts.send("claim", *leaves[0], proof)
    assert contracts.balance(account) == amount


def test_without_a_root_nothing_is_proven(contracts: Contracts, leaves: list[Leaf]) -> None:
    contracts.fund(10 * ONE)
    assert contracts.read("root") == b"\0" * 32
    assert contracts.refuses("claim", *leaves[0], []) == ("InvalidProof", *leaves[0])


def test_an_inner_node_of_64_bytes_is_no_leaf(
    contracts: Contracts, tree: Tree, leaves: list[Leaf]
) -> None:
    left, right = tree.nodes[3], tree.nodes[4]
    assert tree.nodes[1] == inner_hash(left, right)
    # The 64 bytes below an inner node, read as the first two words of a leaf.
    for one, other in ((left, right), (right, left)):
        forged = ("0x" + one[12:].hex(), other, 0)
        call = contracts.settlement.functions.claim(
            contracts.web3.to_checksum_address(forged[0]), *forged[1:], tree.proof_of(1)
        )
        assert contracts.refused(call, contracts.operator)[0] == "InvalidProof"


def test_a_leaf_hashed_once_is_refused(contracts: Contracts, leaves: list[Leaf]) -> None:
    """Were the contract to hash once, an inner node could be given as a leaf."""
    once = [keccak(encode(["address", "bytes32", "uint256"], list(leaf))) for leaf in leaves[:2]]
    contracts.fund(10 * ONE)
    contracts.send("proposeRoot", 1, inner_hash(*once), 10 * ONE, "ipfs://once")
    assert contracts.refuses("claim", *leaves[0], [once[1]]) == ("InvalidProof", *leaves[0])


def test_a_newer_root_pays_the_difference_and_the_older_proofs_end(
    contracts: Contracts, chain: DevChain, tree: Tree, leaves: list[Leaf]
) -> None:
    account, id_, amount = leaves[0]
    contracts.send("claim", *leaves[0], tree.proof(leaves[0]))
    grown = [(account, id_, amount + 5), *leaves[1:], (account, stream("bounty:1"), 4)]
    newer = Tree(grown)
    contracts.fund(9)
    contracts.send("proposeRoot", 4, newer.root, newer.total, "ipfs://newer")

    # Of the epoch before: the leaf that grew is no longer in the tree, nor is any old path.
    assert contracts.refuses("claim", *leaves[1], tree.proof(leaves[1])) == (
        "InvalidProof",
        *leaves[1],
    )
    assert contracts.refuses("claim", *leaves[0], newer.proof(grown[0])) == (
        "InvalidProof",
        *leaves[0],
    )
    [event] = contracts.send("claim", *grown[0], newer.proof(grown[0]))
    assert (event["amount"], event["cumulative"]) == (5, amount + 5)
    assert contracts.read("claimed", account, id_) == amount + 5
    assert contracts.refuses("claim", *grown[0], newer.proof(grown[0])) == (
        "NothingToClaim",
        *grown[0],
    )
    contracts.send("claim", *grown[4], newer.proof(grown[4]))
    assert contracts.balance(account) == amount + 5 + 4
    assert contracts.balance(chain.accounts[1].address) == 0


def test_a_leaf_that_fell_pays_nothing(
    contracts: Contracts, tree: Tree, leaves: list[Leaf]
) -> None:
    contracts.send("claim", *leaves[0], tree.proof(leaves[0]))
    fallen = [(*leaves[0][:2], ONE), *leaves[1:]]
    newer = Tree(fallen)
    contracts.send("proposeRoot", 2, newer.root, tree.total, "ipfs://fallen")
    assert contracts.refuses("claim", *fallen[0], newer.proof(fallen[0])) == (
        "NothingToClaim",
        *leaves[0],
    )


def test_many_claims_pay_once_each_and_pass_over_what_is_paid(
    contracts: Contracts, chain: DevChain, tree: Tree, leaves: list[Leaf]
) -> None:
    contracts.send("claim", *leaves[1], tree.proof(leaves[1]), sender=chain.accounts[8].address)
    claims = [(*leaf, tree.proof(leaf)) for leaf in (*leaves, leaves[0])]
    paid = contracts.settlement.functions.claimMany(claims).call()
    events = contracts.send("claimMany", claims)

    assert paid == tree.total - 7
    assert [(each["account"], each["stream"], each["amount"]) for each in events] == [
        leaves[0],
        leaves[2],
        leaves[3],
    ]
    assert contracts.balance(chain.accounts[0].address) == 3 * ONE + 7
    assert contracts.balance(chain.accounts[1].address) == 2 * ONE + 1
    assert contracts.send("claimMany", claims) == []
    assert contracts.send("claimMany", []) == []
    assert contracts.balance(contracts.address) == 0


def test_one_wrong_claim_among_many_undoes_all(
    contracts: Contracts, tree: Tree, leaves: list[Leaf]
) -> None:
    wrong = (*leaves[1][:2], 8)
    claims = [(*leaves[0], tree.proof(leaves[0])), (*wrong, tree.proof(leaves[1]))]
    assert contracts.refuses("claimMany", claims) == ("InvalidProof", *wrong)


def test_leaves_beyond_the_total_never_touch_what_others_deposited(
    contracts: Contracts, leaves: list[Leaf]
) -> None:
    """A proposer that lies about the total: claims end there, unspent balances stay."""
    tree = Tree(leaves)
    contracts.fund(100 * ONE)
    contracts.send("proposeRoot", 1, tree.root, 4 * ONE, "ipfs://lie")
    contracts.send("claim", *leaves[0], tree.proof(leaves[0]))
    assert contracts.refuses("claim", *leaves[2], tree.proof(leaves[2])) == (
        "TotalExceeded",
        2 * ONE,
        ONE,
    )
    assert contracts.read("held") == 97 * ONE
