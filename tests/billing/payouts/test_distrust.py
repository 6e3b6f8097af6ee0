"""Whatever a node says, nothing is credited by it that the chain does not have."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django import Settings

from billing.payouts import services
from billing.payouts.models import Cursor, Event
from inframind.chain import client, events
from inframind.lib import calldata
from tests.billing.payouts.acts import IFM, People, balance, cursor, everything
from tests.billing.payouts.lying import Lie, LyingNode, Raw, Refusal, Silence, lying

pytestmark = pytest.mark.django_db
OTHER_HASH = "0x" + "ab" * 32


@pytest.fixture
def node(people: People, settings: Settings) -> Iterator[LyingNode]:
    """A node that the application asks, before the chain of ``people``."""
    with lying(people.chain.rpc_url) as proxy:
        settings.ETH_RPC_URL = proxy.url
        settings.CHAIN_CONFIRMATIONS = 2
        yield proxy


def changed(result: Any, **fields: Any) -> Any:
    return {**result, **fields}


def only(method: str, rewrite: Any) -> Lie:
    def lie(asked: str, parameters: list[Any], result: Any) -> Any:
        return rewrite(parameters, copy.deepcopy(result)) if asked == method else result

    return lie


def first_log(**fields: Any) -> Lie:
    return only("eth_getLogs", lambda _, logs: [changed(logs[0], **fields), *logs[1:]])


def deposit_log(rewrite: Any) -> Lie:
    """Rewrites the deposit's log, and leaves the others as they are."""

    def of(_: Any, logs: list[Any]) -> Any:
        return [rewrite(log) if len(log["data"]) == 66 else log for log in logs]

    return only("eth_getLogs", of)


def also_in_receipts(logs: Lie, change: Any) -> Lie:
    """A lie told twice: by the logs and by the receipts."""

    def lie(asked: str, parameters: list[Any], result: Any) -> Any:
        if asked == "eth_getTransactionReceipt":
            kept = [change(log) for log in result["logs"]]
            return changed(result, logs=[log for log in kept if log is not None])
        return logs(asked, parameters, result)

    return lie


def without_deposits(log: Any) -> Any:
    return None if len(log["data"]) == 66 and len(log["topics"]) == 3 else log


def twice_as_much(log: Any) -> Any:
    if without_deposits(log) is not None:
        return log
    return changed(log, data="0x" + f"{int(log['data'], 16) * 2:064x}")


def all_logs(change: Any) -> Lie:
    def of(_: Any, logs: list[Any]) -> Any:
        return [each for each in map(change, logs) if each is not None]

    return only("eth_getLogs", of)


def block_lie(rewrite: Any) -> Lie:
    return only("eth_getBlockByNumber", lambda asked, block: rewrite(asked, block))


LIES: dict[str, Lie] = {
    "another chain's id": only("eth_chainId", lambda *_: "0x1"),
    "a chain id that is none": only("eth_chainId", lambda *_: {"id": 1}),
    "a head that is no number": block_lie(
        lambda asked, block: changed(block, number="zero") if asked[0] == "latest" else block
    ),
    "a head of another hash": block_lie(
        lambda asked, block: changed(block, hash=OTHER_HASH) if asked[0] == "latest" else block
    ),
    "blocks that do not link": block_lie(
        lambda asked, block: (
            block if asked[0] == "latest" else changed(block, parentHash=OTHER_HASH)
        )
    ),
    "blocks of another hash": block_lie(
        lambda asked, block: block if asked[0] == "latest" else changed(block, hash=OTHER_HASH)
    ),
    "blocks of another number": block_lie(
        lambda asked, block: block if asked[0] == "latest" else changed(block, number="0x1")
    ),
    "no blocks": block_lie(lambda asked, block: block if asked[0] == "latest" else None),
    "blocks that are lists": block_lie(lambda *_: []),
    "no logs": only("eth_getLogs", lambda *_: []),
    "logs that are none": only("eth_getLogs", lambda *_: "0x"),
    "a log without data": first_log(data=None),
    "a log of another block": first_log(blockHash=OTHER_HASH),
    "a log outside of what was asked": first_log(blockNumber="0xffffff"),
    "a log of another contract": first_log(address="0x" + "11" * 20),
    "a log of another event": first_log(topics=[OTHER_HASH]),
    "a log that was removed": first_log(removed=True),
    "a log of a transaction that is none": first_log(transactionHash=OTHER_HASH),
    "a log twice": only("eth_getLogs", lambda _, logs: [*logs, logs[-1]]),
    "a deposit left out": all_logs(without_deposits),
    "a deposit left out everywhere": also_in_receipts(all_logs(without_deposits), without_deposits),
    "twice the deposit": all_logs(twice_as_much),
    "twice the deposit everywhere": also_in_receipts(all_logs(twice_as_much), twice_as_much),
    "a deposit for somebody else": deposit_log(
        lambda log: changed(
            log, topics=[log["topics"][0], "0x" + "00" * 31 + "07", *log["topics"][2:]]
        )
    ),
    "a deposit with a topic too few": deposit_log(
        lambda log: changed(log, topics=log["topics"][:2])
    ),
    "a receipt that failed": only(
        "eth_getTransactionReceipt", lambda _, receipt: changed(receipt, status="0x0")
    ),
    "no receipt": only("eth_getTransactionReceipt", lambda *_: None),
    "another's receipt": only(
        "eth_getTransactionReceipt",
        lambda _, receipt: changed(receipt, transactionHash=OTHER_HASH),
    ),
    "other totals": only("eth_call", lambda _, word: "0x" + "00" * 31 + "09"),
    "totals that are none": only("eth_call", lambda *_: "0x"),
    "an error": only("eth_getLogs", lambda *_: Refusal()),
    "a revert": only("eth_call", lambda *_: Refusal("execution reverted")),
    "a page of HTML": only("eth_getLogs", lambda *_: Raw()),
    "an error of HTTP": only("eth_getLogs", lambda *_: Raw(status=502)),
    "JSON that is no answer": only("eth_getLogs", lambda *_: Raw(b"[1, 2]")),
    "a batch of one": only("eth_getBlockByNumber", lambda *_: Raw(b'{"jsonrpc":"2.0","id":1}')),
    "text that is no UTF-8": only("eth_chainId", lambda *_: Raw(b'"\xff\xfe"')),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_no_lie_moves_the_cursor_or_credits(people: People, node: LyingNode, lie: Lie) -> None:
    people.deposit(1, IFM)
    people.mine()
    assert services.follow().reason == ""
    people.deposit(1, 2 * IFM)
    people.mine(2)
    before = everything()
    node.lie = lie
    followed = services.follow()
    assert followed.reason
    assert not followed.halted
    assert everything() == before
    node.lie = None
    assert services.follow().reason == ""
    assert balance(people.address(1)) == 3 * IFM


def without_roots(log: Any) -> Any:
    return None if log["topics"][0] == "0x" + events.topic_of("RootProposed").hex() else log


def with_another_total(log: Any) -> Any:
    if without_roots(log) is not None:
        return log
    data = log["data"][2:]
    return changed(log, data=f"0x{data[:64]}{IFM // 4:064x}{data[128:]}")


@pytest.mark.parametrize("change", [without_roots, with_another_total])
def test_no_lie_about_a_root_moves_the_cursor(people: People, node: LyingNode, change: Any) -> None:
    """A proposal that was passed over would never be read again: its epoch could not be claimed."""
    people.deposit(1, IFM)
    people.mine(2)
    assert services.follow().reason == ""
    proposal = calldata.propose_root(1, b"r" * 32, IFM // 2, "ipfs://tree")
    people.send(people.chain.operator.address, people.chain.settlement, proposal)
    people.mine(2)
    before = everything()
    node.lie = also_in_receipts(all_logs(change), change)
    followed = services.follow()
    assert (bool(followed.reason), followed.halted) == (True, False)
    assert everything() == before
    node.lie = None
    assert services.follow().reason == ""
    root = Event.objects.get(kind="root-proposed")
    assert (bytes(root.root or b""), int(root.amount_base_units)) == (b"r" * 32, IFM // 2)


def test_a_node_that_does_not_answer_in_time_moves_nothing(
    people: People, node: LyingNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.3)
    people.deposit(1, IFM)
    people.mine()
    node.lie = only("eth_getLogs", lambda *_: Silence(0.8))
    assert "imeout" in services.follow().reason
    assert balance(people.address(1)) == 0


def test_a_head_that_goes_back_is_waited_out(people: People, node: LyingNode) -> None:
    people.deposit(1, IFM)
    people.mine(3)
    services.follow()
    before = cursor()
    behind = people.client.blocks(1, 1)[0]
    assert behind is not None
    old = people.chain.rpc("eth_getBlockByNumber", hex(behind.number), False)
    node.lie = block_lie(lambda asked, block: old if asked[0] == "latest" else block)
    people.mine(3)
    assert "went back" in services.follow().reason
    assert cursor() == before
    node.lie = None
    assert services.follow().reason == ""


def test_a_lie_about_the_block_at_the_cursor_halts_nothing(people: People, node: LyingNode) -> None:
    """Only blocks that hang together are taken for a reorganisation."""
    people.deposit(1, IFM)
    people.mine(3)
    services.follow()
    number = hex(Cursor.objects.get().block_number)
    node.lie = block_lie(
        lambda asked, block: changed(block, hash=OTHER_HASH) if asked[0] == number else block
    )
    people.mine()
    followed = services.follow()
    assert (followed.halted, "child of" in followed.reason) == (False, True)
    assert Cursor.objects.get().state == "following"


def test_what_is_not_believed_was_asked(people: People, node: LyingNode) -> None:
    """Negative control: the truth through the same proxy is believed."""
    people.deposit(1, IFM)
    people.mine()
    assert services.follow().reason == ""
    assert balance(people.address(1)) == IFM
    assert {"eth_chainId", "eth_getLogs", "eth_getTransactionReceipt", "eth_call"} <= set(
        node.asked
    )
