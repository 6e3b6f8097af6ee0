"""The chain's answers, read strictly, and its refusals in words."""

from __future__ import annotations

from typing import Any

import pytest

from inframind.chain import answers, events, signing
from inframind.chain.client import CallReverted, Chain, ChainLies, ChainUnavailable
from inframind.chain.contracts import Contracts
from inframind.chain.errors import words_of
from inframind.lib import calldata, secp256k1
from tests.chains import DevChain

HASH = "0x" + "ab" * 32
LOG: dict[str, Any] = {
    "address": "0x" + "11" * 20,
    "topics": [HASH],
    "data": "0x",
    "blockNumber": "0x1",
    "blockHash": HASH,
    "transactionHash": HASH,
    "logIndex": "0x0",
}


@pytest.fixture
def client(chain: DevChain) -> Chain:
    return Chain(chain.rpc_url, 31_337)


@pytest.fixture
def contracts(chain: DevChain, client: Chain) -> Contracts:
    return Contracts(client, chain.ifm, chain.settlement)


@pytest.mark.parametrize("value", [None, 1, "", "0x", "1", "0xg", "0x" + "1" * 65, True, []])
def test_a_number_is_hexadecimal(value: Any) -> None:
    with pytest.raises(ChainLies):
        answers.quantity(value)


@pytest.mark.parametrize("value", [None, "0x1", "12", 12, "0xzz"])
def test_octets_are_pairs(value: Any) -> None:
    with pytest.raises(ChainLies):
        answers.octets(value)


@pytest.mark.parametrize("field", list(LOG))
def test_a_log_has_all_of_its_fields(field: str) -> None:
    assert answers.log(LOG).index == 0
    wrong: list[Any] = [None, {}, "0xnothing"]
    for value in wrong:
        with pytest.raises(ChainLies):
            answers.log({**LOG, field: value})


@pytest.mark.parametrize("status", ["0x2", None, "ok"])
def test_a_receipt_succeeded_or_failed(status: Any) -> None:
    told = {"transactionHash": HASH, "blockNumber": "0x1", "blockHash": HASH, "logs": []}
    assert answers.receipt({**told, "status": "0x1"}).succeeded
    with pytest.raises(ChainLies):
        answers.receipt({**told, "status": status})


def test_headers_link_from_the_first_to_the_last(chain: DevChain, client: Chain) -> None:
    chain.rpc("anvil_mine", hex(250))
    start = client.block(chain.block)
    assert start is not None
    found = client.headers(start, client.head().number)
    assert [each.number for each in found] == list(range(chain.block + 1, client.head().number + 1))
    assert found[-1] == client.head()
    assert client.headers(start, start.number) == []
    with pytest.raises(ChainLies, match="child of"):
        client.headers(answers.Block(start.number, HASH, HASH, 0, 0), start.number + 1)
    with pytest.raises(ChainUnavailable, match="no block"):
        client.headers(start, client.head().number + 1)


def test_views_are_as_of_a_block(chain: DevChain, client: Chain, contracts: Contracts) -> None:
    before = client.head()
    operator = chain.operator.address
    for to, data in (
        (chain.ifm, calldata.approve(chain.settlement, 5)),
        (chain.settlement, calldata.deposit(operator, 5)),
    ):
        chain.send(operator, to, data)
    assert contracts.totals().deposited == contracts.totals(before).deposited + 5
    assert contracts.token() == chain.ifm
    assert (contracts.root_epoch(), contracts.pending_epoch()) == (0, 0)
    assert contracts.root_of(1).root == bytes(32)


def test_a_contract_that_is_none_is_noticed(chain: DevChain, client: Chain) -> None:
    with pytest.raises(ChainLies, match="no Settlement contract"):
        Contracts(client, chain.ifm, "0x" + "11" * 20).totals()


def test_a_refusal_names_its_error_and_what_it_is_about(chain: DevChain, client: Chain) -> None:
    data = calldata.propose_root(0, b"\1" * 32, 0, "")
    with pytest.raises(CallReverted) as refused:
        client.estimate(sender=chain.operator.address, to=chain.settlement, data=data)
    assert refused.value.name == "EpochNotNewer"
    assert refused.value.words == "EpochNotNewer(epoch 0, last 0)"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ""),
        (b"\x12\x34\x56\x78", ""),
        (bytes.fromhex("4e487b71") + (17).to_bytes(32, "big"), "Panic(17)"),
        (bytes.fromhex("4e487b71"), ""),
        (
            bytes.fromhex("08c379a0")
            + (32).to_bytes(32, "big")
            + (2).to_bytes(32, "big")
            + b"no".ljust(32, b"\0"),
            "no",
        ),
    ],
)
def test_revert_data_in_words(data: bytes, words: str) -> None:
    assert words_of(data) == words


def test_another_chain_is_noticed(chain: DevChain) -> None:
    with pytest.raises(ChainLies, match="31337"):
        Chain(chain.rpc_url, 1).head()


def test_a_node_that_is_not_there(chain: DevChain) -> None:
    with pytest.raises(ChainUnavailable):
        Chain("http://127.0.0.1:9", 31_337).head()


def test_the_same_fields_are_signed_to_the_same_octets() -> None:
    key = b"\5" * 32
    fields: dict[str, Any] = {
        "chain_id": 5, "nonce": 7, "to": "0x" + "11" * 20, "data": b"\1\2", "value_wei": 3,
        "gas": 21_000, "max_fee_wei": 10, "priority_fee_wei": 1,
    }  # fmt: skip
    signed = signing.sign(key, **fields)
    assert signing.sign(key, **fields) == signed
    read = signing.read(signed.raw)
    assert read.hash == signed.hash
    assert read.sender == secp256k1.address_of_key(key)
    assert (read.chain_id, read.nonce, read.to, read.data, read.value_wei, read.gas) == (
        5, 7, "0x" + "11" * 20, b"\1\2", 3, 21_000,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "0x", "zz" * 32, "0x" + "11" * 31, "00" * 32, "ff" * 32])
def test_what_is_no_key_is_said(text: str) -> None:
    with pytest.raises(ChainUnavailable, match="no private key"):
        signing.key_of(text)


def test_followed_events_are_read_from_the_contract_that_says_them_only() -> None:
    topic = events.topic_of("RootRevoked")
    epoch = (5).to_bytes(32, "big")
    ifm, settlement = "0x" + "11" * 20, "0x" + "22" * 20
    log = answers.Log(settlement, (topic, epoch), b"", 1, HASH, HASH, 0)
    read = events.read(log, ifm=ifm, settlement=settlement)
    assert read is not None
    assert (read.name, read.arguments) == ("RootRevoked", {"epoch": 5})
    assert events.read(log, ifm=settlement, settlement=ifm) is None
    for topics in ((topic,), (topic, epoch, epoch), (topic, b"\xff" * 32), (b"\7" * 32,), ()):
        with pytest.raises(ChainLies):
            events.read(
                answers.Log(settlement, topics, b"", 1, HASH, HASH, 0),
                ifm=ifm,
                settlement=settlement,
            )
