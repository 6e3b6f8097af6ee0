"""Trees as @openzeppelin/merkle-tree builds them: node by node, and by what has to hold of any."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.devstack.chaintools import ChainTools, ensure_chain_tools
from inframind.devstack.processes import Children
from inframind.lib.merkle import (
    NO_ROOT,
    Tree,
    keccak,
    leaf_of,
    leaves_of,
    root_from,
    verify,
)

HASHES = st.binary(min_size=32, max_size=32)
LEAVES = st.lists(HASHES, min_size=1, max_size=70, unique=True)
Entry = tuple[str, bytes, int]

# Prints, line by line: the root; every proof; the dump.
SCRIPT = """
const { StandardMerkleTree } = require('@openzeppelin/merkle-tree');
const values = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const tree = StandardMerkleTree.of(values, ['address', 'bytes32', 'uint256']);
const out = [tree.root];
for (const [index] of tree.entries()) out.push(JSON.stringify(tree.getProof(index)));
out.push(JSON.stringify(tree.dump()));
process.stdout.write(out.join('\\n'));
"""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> ChainTools:
    """Where @openzeppelin/merkle-tree is, and the node that runs it."""
    children = Children(tmp_path_factory.mktemp("tools"))
    try:
        return ensure_chain_tools(children, say=print)
    finally:
        children.close()


def entries(count: int) -> list[Entry]:
    chance = random.Random(20_240_611)
    return [
        ("0x" + chance.randbytes(20).hex(), chance.randbytes(32), chance.randrange(1, 2**200))
        for _ in range(count)
    ]


def test_root_proofs_and_dump_are_those_of_openzeppelin_for_10_000_leaves(
    tools: ChainTools,
) -> None:
    values = entries(10_000)
    root, *proofs, dump = _openzeppelin(tools, values)
    tree = Tree.of(leaves_of(values))
    assert tree.root.hex() == root.removeprefix("0x")
    assert [json.loads(each) for each in proofs] == [
        ["0x" + node.hex() for node in proof] for proof in tree.proofs()
    ]
    document = json.loads(dump)
    assert document["tree"] == ["0x" + node.hex() for node in tree.heap]
    assert [value["treeIndex"] for value in document["values"]] == list(tree.indexes)
    assert document["format"] == "standard-v1"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_small_trees_are_those_of_openzeppelin(tools: ChainTools, count: int) -> None:
    values = entries(count)
    root, *proofs, _ = _openzeppelin(tools, values)
    tree = Tree.of(leaves_of(values))
    assert tree.root.hex() == root.removeprefix("0x")
    assert [json.loads(each) for each in proofs] == [
        ["0x" + node.hex() for node in tree.proof(position)] for position in range(count)
    ]


@given(leaves=LEAVES)
def test_every_proof_verifies_and_each_way_to_it_gives_the_same(leaves: list[bytes]) -> None:
    tree = Tree.of(leaves)
    for position, (leaf, proof) in enumerate(zip(leaves, tree.proofs(), strict=True)):
        assert proof == tree.proof(position) == tree.proof_of(leaf)
        assert root_from(leaf, proof) == tree.root
        assert verify(tree.root, leaf, proof)


@given(leaves=LEAVES, other=HASHES, data=st.data())
def test_no_proof_verifies_for_another_leaf_or_when_it_is_bent(
    leaves: list[bytes], other: bytes, data: st.DataObject
) -> None:
    tree = Tree.of(leaves)
    position = data.draw(st.integers(0, len(leaves) - 1))
    leaf, proof = leaves[position], tree.proof(position)
    for wrong in {other, *leaves} - {leaf}:
        assert not verify(tree.root, wrong, proof)
    assert not verify(tree.root, leaf, [*proof, other])
    assert not verify(tree.root, leaf, [each[:31] for each in proof] or [b""])
    if proof:
        assert not verify(tree.root, leaf, proof[:-1])
        at = data.draw(st.integers(0, len(proof) - 1))
        bent = [*proof[:at], bytes([proof[at][0] ^ 1]) + proof[at][1:], *proof[at + 1 :]]
        assert not verify(tree.root, leaf, bent)


@given(leaves=LEAVES, seed=st.integers())
def test_the_order_of_leaves_does_not_matter(leaves: list[bytes], seed: int) -> None:
    shuffled = list(leaves)
    random.Random(seed).shuffle(shuffled)
    one, other = Tree.of(leaves), Tree.of(shuffled)
    assert one.nodes == other.nodes
    assert [one.proof_of(leaf) for leaf in leaves] == [other.proof_of(leaf) for leaf in leaves]


@given(leaves=LEAVES)
def test_unsorted_leaves_stay_in_their_order(leaves: list[bytes]) -> None:
    tree = Tree.of(leaves, sort=False)
    assert list(tree.heap[len(leaves) - 1 :]) == leaves[::-1]
    assert all(verify(tree.root, leaf, tree.proof_of(leaf)) for leaf in leaves)


@given(leaves=LEAVES)
def test_a_tree_is_read_back_from_its_nodes(leaves: list[bytes]) -> None:
    tree = Tree.of(leaves)
    back = Tree.from_nodes(tree.nodes)
    assert back.root == tree.root
    assert back.nodes == tree.nodes
    assert len(back) == len(leaves)
    assert [back.proof_of(leaf) for leaf in leaves] == list(tree.proofs())
    # Positions are ranks there: the leaves in the order of their hashes.
    assert [back.proof(rank) for rank in range(len(leaves))] == [
        tree.proof_of(leaf) for leaf in sorted(leaves)
    ]


@settings(max_examples=20)
@given(leaf=HASHES, times=st.integers(2, 5))
def test_equal_leaves_each_have_a_proof(leaf: bytes, times: int) -> None:
    tree = Tree.of([leaf] * times)
    assert all(verify(tree.root, leaf, proof) for proof in tree.proofs())


def test_a_tree_without_leaves_has_the_root_of_zeros() -> None:
    tree = Tree.of([])
    assert (tree.root, tree.nodes, len(tree), list(tree.proofs())) == (NO_ROOT, b"", 0, [])
    assert Tree.from_nodes(b"").root == NO_ROOT
    with pytest.raises(KeyError):
        tree.proof_of(NO_ROOT)
    with pytest.raises(IndexError):
        tree.proof(0)


def test_a_strangers_leaf_and_a_negative_position_have_no_proof() -> None:
    tree = Tree.of([secrets.token_bytes(32) for _ in range(5)])
    with pytest.raises(KeyError):
        tree.proof_of(tree.root)
    with pytest.raises(IndexError):
        tree.proof(-1)


@pytest.mark.parametrize("length", [1, 31, 33, 64, 128])
def test_bytes_of_another_length_are_no_tree(length: int) -> None:
    with pytest.raises(ValueError, match="are no tree"):
        Tree.from_nodes(bytes(length))


def test_a_leaf_is_hashed_twice_over_the_abi_encoding() -> None:
    address, stream = "0x" + "ab" * 20, bytes(range(32))
    encoded = bytes(12) + bytes.fromhex("ab" * 20) + stream + (7).to_bytes(32, "big")
    assert leaf_of(address, stream, 7) == keccak(keccak(encoded))
    assert leaves_of([(address, stream, 7)]) == [leaf_of(address, stream, 7)]


@pytest.mark.parametrize(
    ("address", "stream", "cumulative"),
    [
        ("0x" + "ab" * 19, bytes(32), 1),
        ("0x" + "ab" * 19 + "g0", bytes(32), 1),
        ("0x" + "ab" * 19 + " a", bytes(32), 1),
        ("ab" * 21, bytes(32), 1),
        ("0x" + "ab" * 20, bytes(31), 1),
        ("0x" + "ab" * 20, bytes(32), -1),
        ("0x" + "ab" * 20, bytes(32), 2**256),
    ],
)
def test_what_does_not_fit_its_type_is_no_leaf(
    address: str, stream: bytes, cumulative: int
) -> None:
    with pytest.raises(ValueError):
        leaf_of(address, stream, cumulative)


def _openzeppelin(tools: ChainTools, values: list[Entry]) -> list[str]:
    document = [
        [address, "0x" + stream.hex(), str(cumulative)] for address, stream, cumulative in values
    ]
    done = subprocess.run(
        [tools.node, "-e", SCRIPT],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NODE_PATH": str(tools.modules)},
    )
    return done.stdout.split("\n")
