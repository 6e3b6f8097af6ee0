"""Merkle trees in the format of OpenZeppelin's StandardMerkleTree v1.

A tree is a heap: node ``i`` has the children ``2i + 1`` and ``2i + 2``, the root is node 0, and the
leaves are the last nodes in reverse. An inner node is the keccak of its two children, the smaller
first. Nothing here knows what a leaf says but ``leaf_of``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

HASH_BYTES: Final = 32
NO_ROOT: Final = bytes(HASH_BYTES)  # of a tree without leaves
_MAX_UINT256: Final = 2**256 - 1


def keccak(octets: bytes) -> bytes:
    """The keccak-256 of ``octets``: 32 bytes."""
    digest: bytes = _hasher()(octets).digest()
    return digest


def leaf_of(address: str, stream: bytes, cumulative: int) -> bytes:
    """The leaf of ``(address account, bytes32 stream, uint256 cumulative)``: 32 bytes.

    Hashed twice, so that no inner node, which is hashed once, can pass for a leaf. Raises
    ``ValueError`` where a value does not fit its type.
    """
    return keccak(keccak(_encoded(address, stream, cumulative)))


def leaves_of(entries: Iterable[tuple[str, bytes, int]]) -> list[bytes]:
    """``leaf_of`` for many entries, in their order. Raises like it."""
    hasher = _hasher()
    return [
        hasher(hasher(_encoded(address, stream, cumulative)).digest()).digest()
        for address, stream, cumulative in entries
    ]


def root_from(leaf: bytes, proof: Iterable[bytes]) -> bytes:
    """The root that a leaf and its proof lead to."""
    hasher = _hasher()
    node = leaf
    for sibling in proof:
        node = hasher(node + sibling if node < sibling else sibling + node).digest()
    return node


def verify(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Says whether ``proof`` shows that ``leaf`` is under ``root``."""
    if any(len(part) != HASH_BYTES for part in (root, leaf, *proof)):
        return False
    return root_from(leaf, proof) == root


class Tree:
    """A tree that never changes. ``nodes`` is all there is to it: 32 bytes each, root first."""

    def __init__(self, heap: list[bytes], indexes: Sequence[int]) -> None:
        """``heap``: the nodes in their order. ``indexes``: which of them the leaves are."""
        self._heap = heap
        self._indexes = indexes
        self._index_of: dict[bytes, int] | None = None

    @classmethod
    def of(cls, leaves: Sequence[bytes], *, sort: bool = True) -> Tree:
        """Builds a tree over hashed leaves of 32 bytes; positions are those in ``leaves``.

        ``sort`` puts them in the order of their hashes, which makes the root that of the set.
        """
        count = len(leaves)
        if not count:
            return cls([], ())
        order = sorted(range(count), key=leaves.__getitem__) if sort else range(count)
        last = 2 * count - 2
        heap = [b""] * (count - 1)
        heap.extend(leaves[position] for position in reversed(order))
        indexes = [0] * count
        for rank, position in enumerate(order):
            indexes[position] = last - rank
        hasher = _hasher()
        for parent in range(count - 2, -1, -1):
            left, right = heap[2 * parent + 1], heap[2 * parent + 2]
            heap[parent] = hasher(left + right if left < right else right + left).digest()
        return cls(heap, indexes)

    @classmethod
    def from_nodes(cls, nodes: bytes) -> Tree:
        """Reads ``nodes`` back without hashing; positions are ranks in the tree's own order.

        Raises ``ValueError`` where that many bytes are no tree. Whoever does not trust the bytes
        compares ``Tree.of`` over the leaves.
        """
        if nodes and len(nodes) % (2 * HASH_BYTES) != HASH_BYTES:
            raise ValueError(
                f"{len(nodes)} bytes are no tree: a tree of n leaves has 2n - 1 nodes of "
                f"{HASH_BYTES} bytes."
            )
        octets = bytes(nodes)
        heap = [octets[at : at + HASH_BYTES] for at in range(0, len(octets), HASH_BYTES)]
        return cls(heap, range(len(heap) - 1, len(heap) // 2 - 1, -1) if heap else ())

    @property
    def root(self) -> bytes:
        """32 bytes; ``NO_ROOT`` where there is no leaf."""
        return self._heap[0] if self._heap else NO_ROOT

    @property
    def nodes(self) -> bytes:
        """Every node, root first, 32 bytes each."""
        return b"".join(self._heap)

    @property
    def heap(self) -> Sequence[bytes]:
        """The same nodes one by one, the ``tree`` of OpenZeppelin's dump."""
        return self._heap

    @property
    def indexes(self) -> Sequence[int]:
        """Which node each leaf is, by its position: ``treeIndex`` of OpenZeppelin's dump."""
        return self._indexes

    def __len__(self) -> int:
        """How many leaves there are."""
        return len(self._indexes)

    def proof(self, position: int) -> list[bytes]:
        """The siblings from the leaf at ``position`` up to the root. Raises ``IndexError``."""
        if position < 0:
            raise IndexError(f"A position counts from 0, and this is {position}.")
        return self._path(self._indexes[position])

    def proof_of(self, leaf: bytes) -> list[bytes]:
        """The proof of a leaf; raises ``KeyError`` where the tree does not have it."""
        if self._index_of is None:
            self._index_of = {self._heap[index]: index for index in self._indexes}
        return self._path(self._index_of[leaf])

    def proofs(self) -> Iterator[list[bytes]]:
        """The proof of every leaf, by position, many times faster than one after the other."""
        heap = self._heap
        paths: list[list[bytes]] = [[]] * min(len(heap), 1)
        for index in range(1, len(heap)):
            sibling = index + 1 if index & 1 else index - 1
            paths.append([heap[sibling], *paths[(index - 1) >> 1]])
        return (paths[index] for index in self._indexes)

    def _path(self, index: int) -> list[bytes]:
        heap = self._heap
        path = []
        while index:
            path.append(heap[index + 1 if index & 1 else index - 1])
            index = (index - 1) >> 1
        return path


def _encoded(address: str, stream: bytes, cumulative: int) -> bytes:
    account = bytes.fromhex(address[2:])
    if len(address) != 42 or len(account) != 20 or address[1] not in "xX":
        raise ValueError(f"{address[:60]!r} is no address of 0x and 40 hexadecimal digits.")
    if len(stream) != HASH_BYTES:
        raise ValueError(f"A stream's id has {HASH_BYTES} bytes, and this one {len(stream)}.")
    if not 0 <= cumulative <= _MAX_UINT256:
        raise ValueError(f"{cumulative} is no uint256.")
    return b"%b%b%b%b" % (bytes(12), account, stream, cumulative.to_bytes(HASH_BYTES, "big"))


def _hasher() -> Callable[[bytes], Any]:
    # The keccak extension is absent where only a part of the command line client is installed.
    import sha3

    hasher: Callable[[bytes], Any] = sha3.keccak_256
    return hasher
