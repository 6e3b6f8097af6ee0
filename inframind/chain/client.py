"""What is asked of the chain, over JSON-RPC, and nothing of it believed unseen."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from inframind.chain import answers
from inframind.chain.answers import Block, Log, Receipt
from inframind.chain.errors import CallReverted, ChainLies, ChainUnavailable

if TYPE_CHECKING:
    from web3 import Web3

__all__ = [
    "Block",
    "CallReverted",
    "Chain",
    "ChainLies",
    "ChainUnavailable",
    "Fees",
    "Log",
    "Receipt",
    "chain_at",
]

TIMEOUT_SECONDS: Final = 5
# What hosted nodes take at once without complaint.
BATCH: Final = 100
LOG_BLOCKS: Final = 500
_GWEI: Final = 10**9
_REVERTED: Final = 3  # the code of JSON-RPC errors that carry a contract's words


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction offers per gas, in wei, to be mined in one of the next blocks."""

    max_fee_wei: int
    priority_fee_wei: int


class Chain:
    """One JSON-RPC endpoint, which has to be on chain ``chain_id``.

    Every method raises ``ChainUnavailable``, and ``ChainLies``, a kind of it, where the answers
    contradict themselves or the question. Addresses are checksummed.
    """

    def __init__(self, rpc_url: str, chain_id: int) -> None:
        self.chain_id = chain_id
        self._known_chain = False
        self._web3 = _connect(rpc_url)

    def confirm_chain_id(self) -> None:
        """Asks anew which chain this is: behind one address there may be several nodes."""
        found = answers.quantity(self._ask("eth_chainId"))
        if found != self.chain_id:
            raise ChainLies(f"the node is on chain {found}, not on chain {self.chain_id}")
        self._known_chain = True

    def code_at(self, address: str) -> bytes:
        """The code of an address: empty for what is no contract."""
        self._require_chain()
        return answers.octets(self._ask("eth_getCode", address, "latest"))

    def call(
        self, address: str, data: bytes, *, block: Block | None = None, sender: str | None = None
    ) -> bytes:
        """What a contract answers to this call data, now or as of a block.

        Raises ``CallReverted`` where it refuses.
        """
        self._require_chain()
        question = {"to": address, "data": "0x" + data.hex()}
        if sender is not None:
            question["from"] = sender
        at = "latest" if block is None else {"blockHash": block.hash}
        return answers.octets(self._ask("eth_call", question, at))

    def head(self) -> Block:
        """The newest block."""
        self._require_chain()
        return answers.block(self._ask("eth_getBlockByNumber", "latest", False))

    def block(self, number: int) -> Block | None:
        """The block of this number; None where the node has none yet."""
        [found] = self.blocks(number, number, allow_missing=True)
        return found

    def headers(self, parent: Block, last: int) -> list[Block]:
        """The blocks after ``parent`` up to number ``last``, each the child of the one before."""
        found: list[Block] = []
        before = parent
        for first in range(parent.number + 1, last + 1, BATCH):
            for each in self.blocks(first, min(first + BATCH - 1, last)):
                assert each is not None
                if each.parent_hash != before.hash:
                    raise ChainLies(
                        f"block {each.number} is the child of {each.parent_hash}, while block "
                        f"{before.number} is {before.hash}"
                    )
                if each.time < before.time:
                    raise ChainLies(f"block {each.number} is older than the one before it")
                found.append(each)
                before = each
        return found

    def blocks(self, first: int, last: int, *, allow_missing: bool = False) -> list[Block | None]:
        """The blocks of these numbers, both included, in their order, in one question."""
        self._require_chain()
        asked = [
            ("eth_getBlockByNumber", [hex(number), False]) for number in range(first, last + 1)
        ]
        found: list[Block | None] = []
        for number, answer in zip(range(first, last + 1), self._ask_all(asked), strict=True):
            if answer is None:
                if not allow_missing:
                    raise ChainUnavailable(f"the node has no block {number} yet")
                found.append(None)
                continue
            block = answers.block(answer)
            if block.number != number:
                raise ChainLies(f"asked for block {number}, the node answered with {block.number}")
            found.append(block)
        return found

    def logs(
        self, addresses: Collection[str], topics: Sequence[bytes], first: int, last: int
    ) -> list[Log]:
        """What these contracts said in these blocks, both included, of the events whose first
        topic is one of ``topics``; in the chain's order, each once."""
        self._require_chain()
        found: list[Log] = []
        for start in range(first, last + 1, LOG_BLOCKS):
            end = min(start + LOG_BLOCKS - 1, last)
            question = {
                "address": sorted(addresses),
                "topics": [["0x" + topic.hex() for topic in topics]],
                "fromBlock": hex(start),
                "toBlock": hex(end),
            }
            for log in answers.logs(self._ask("eth_getLogs", question)):
                if not start <= log.block_number <= end:
                    raise ChainLies(
                        f"asked for logs of blocks {start} to {end}, the node answered with one of "
                        f"block {log.block_number}"
                    )
                if log.address not in addresses or not log.topics or log.topics[0] not in topics:
                    raise ChainLies(
                        f"the node answered with a log of {log.address} nobody asked for"
                    )
                found.append(log)
        found.sort(key=lambda log: (log.block_number, log.index))
        if len({(log.block_hash, log.index) for log in found}) != len(found):
            raise ChainLies("the node answered with the same log twice")
        return found

    def receipts(self, hashes: Sequence[str]) -> list[Receipt | None]:
        """How these transactions went; None for those that are in no block."""
        self._require_chain()
        found: list[Receipt | None] = []
        for start in range(0, len(hashes), BATCH):
            some = hashes[start : start + BATCH]
            asked = [("eth_getTransactionReceipt", [each]) for each in some]
            for sought, answer in zip(some, self._ask_all(asked), strict=True):
                receipt = None if answer is None else answers.receipt(answer)
                if receipt is not None and receipt.transaction_hash != sought:
                    raise ChainLies(f"asked for the receipt of {sought}, the node gave another's")
                found.append(receipt)
        return found

    def knows(self, transaction_hash: str) -> bool:
        """Whether the node has the transaction, mined or waiting."""
        self._require_chain()
        answer = self._ask("eth_getTransactionByHash", transaction_hash)
        if answer is None:
            return False
        if not isinstance(answer, dict) or answers.hash_of(answer.get("hash")) != transaction_hash:
            raise ChainLies(f"asked for transaction {transaction_hash}, the node gave another")
        return True

    def nonce_of(self, address: str, *, block: Block | None = None, pending: bool = False) -> int:
        """How many transactions of an account are mined, by now or as of a block; with those that
        wait, where ``pending``."""
        self._require_chain()
        at: Any = "pending" if pending else "latest"
        if block is not None:
            at = hex(block.number)
        return answers.quantity(self._ask("eth_getTransactionCount", address, at))

    def balance_of(self, address: str) -> int:
        """What an account has for gas, in wei."""
        self._require_chain()
        return answers.quantity(self._ask("eth_getBalance", address, "latest"))

    def fees(self) -> Fees:
        """An offer that stays good while the base fee doubles."""
        head = self.head()
        try:
            tip = answers.quantity(self._ask("eth_maxPriorityFeePerGas"))
        except ChainLies:
            raise
        except ChainUnavailable:
            tip = _GWEI  # not every node knows the question
        return Fees(max_fee_wei=2 * head.base_fee_wei + tip, priority_fee_wei=tip)

    def estimate(self, *, sender: str, to: str, data: bytes, value_wei: int = 0) -> int:
        """The gas that this transaction would take now. Raises ``CallReverted``."""
        self._require_chain()
        question = {"from": sender, "to": to, "data": "0x" + data.hex(), "value": hex(value_wei)}
        return answers.quantity(self._ask("eth_estimateGas", question))

    def send(self, raw: bytes) -> str:
        """Hands a signed transaction to the node; its hash, as the node says."""
        self._require_chain()
        return answers.hash_of(self._ask("eth_sendRawTransaction", "0x" + raw.hex()))

    def _require_chain(self) -> None:
        if not self._known_chain:
            self.confirm_chain_id()

    def _ask(self, method: str, *parameters: Any) -> Any:
        return _result(self._reached("make_request", method, list(parameters)))

    def _ask_all(self, asked: list[tuple[str, list[Any]]]) -> list[Any]:
        if not asked:
            return []
        answer = self._reached("make_batch_request", asked)
        if not isinstance(answer, list):
            _result(answer)
            raise ChainLies("the node answered many questions with one answer")
        if len(answer) != len(asked):
            raise ChainLies(f"the node answered {len(answer)} of {len(asked)} questions")
        return [_result(each) for each in answer]

    def _reached(self, way: str, *asked: Any) -> Any:
        from requests.exceptions import RequestException
        from web3.exceptions import Web3Exception

        try:
            return getattr(self._web3.provider, way)(*asked)
        # A node may answer anything at all, and the library below reads it before we do.
        except (Web3Exception, RequestException, OSError) as error:
            raise ChainUnavailable(f"{type(error).__name__}: {error}") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ChainLies(f"the node's answer is malformed: {error}") from None


@lru_cache(maxsize=4)
def chain_at(rpc_url: str, chain_id: int) -> Chain:
    """The endpoint's client, one for the process."""
    return Chain(rpc_url, chain_id)


def _result(answer: Any) -> Any:
    """What a JSON-RPC answer says. Raises ``CallReverted`` and ``ChainUnavailable``."""
    if not isinstance(answer, dict):
        raise ChainLies("the node's answer is no JSON-RPC")
    error = answer.get("error")
    if error is None:
        if "result" not in answer:
            raise ChainLies("the node's answer has no result")
        return answer["result"]
    if not isinstance(error, dict):
        raise ChainUnavailable(f"the node refused the question: {str(error)[:200]}")
    message = str(error.get("message", ""))[:300]
    if error.get("code") == _REVERTED or "revert" in message.lower():
        data = error.get("data")
        if isinstance(data, dict):
            data = data.get("data")
        known = isinstance(data, str) and data.startswith("0x")
        raise CallReverted(message, answers.octets(data) if known else b"")
    raise ChainUnavailable(f"the node refused the question: {message}")


def _connect(rpc_url: str) -> Web3:
    # Imported on first use: it takes seconds, and a library below it lifts Python's recursion limit
    # for the whole process, which is put back here.
    limit = sys.getrecursionlimit()
    from web3 import HTTPProvider, Web3

    sys.setrecursionlimit(limit)
    provider = HTTPProvider(
        rpc_url,
        request_kwargs={"timeout": TIMEOUT_SECONDS},
        exception_retry_configuration=None,
    )
    return Web3(provider)
