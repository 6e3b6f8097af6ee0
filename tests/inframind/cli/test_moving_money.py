"""What the wallet signs, and all that it does not: a server that lies gets no signature."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from inframind.cli import protocol
from inframind.lib import calldata, secp256k1
from inframind.lib.addresses import checksum_address
from inframind.lib.merkle import Tree, leaf_of
from tests.inframind.cli.conftest import (
    ADDRESS,
    KEY,
    OTHER,
    OTHER_KEY,
    TOKEN,
    Answer,
    Infra,
    Outcome,
    PlayedServer,
)

Document = dict[str, Any]

IFM = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
SETTLEMENT = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
ELSEWHERE = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
CHAIN_ID = 31_337
UNITS = 25 * 10**17
AMOUNT: Document = {"base_units": str(UNITS), "text": "2.5 IFM"}
NOTHING: Document = {"base_units": "0", "text": "0 IFM"}
STREAM = bytes(range(32))
TRANSACTIONS = "/api/v1/account/transactions"
DEPOSITS = "/api/v1/account/deposits"
WITHDRAWALS = "/api/v1/account/withdrawals"
CLAIMS = "/api/v1/rewards/claims"
PROTOCOL: Document = {
    "chain_id": CHAIN_ID,
    "ifm": IFM,
    "settlement": SETTLEMENT,
    "confirmations": 1,
    "gateway_signer": OTHER,
    "voucher_signer": OTHER,
    "challenge_seconds": 0,
    "faucet": True,
}


def unsigned(to: str, data: bytes, nonce: int = 7, **changes: Any) -> Document:
    """A transaction as the API offers it."""
    fields = {
        "type": "0x2",
        "chainId": hex(CHAIN_ID),
        "nonce": hex(nonce),
        "to": to,
        "data": "0x" + data.hex(),
        "value": "0x0",
        "gas": hex(120_000),
        "maxFeePerGas": hex(3 * 10**9),
        "maxPriorityFeePerGas": hex(10**9),
    }
    return {"what": "Whatever the server says", "transaction": fields | changes}


def deposit_offer() -> list[Document]:
    return [
        unsigned(IFM, calldata.approve(SETTLEMENT, UNITS)),
        unsigned(SETTLEMENT, calldata.deposit(ADDRESS, UNITS), nonce=8),
    ]


class Bank:
    """A server of which each test spoils one thing."""

    def __init__(self, server: PlayedServer) -> None:
        self.server = server
        self.protocol = copy.deepcopy(PROTOCOL)
        self.says("GET", "/api/v1/protocol", self.protocol)
        self.says("GET", "/api/v1/account", {"address": ADDRESS})
        self.says(
            "GET",
            "/api/v1/account/balance",
            {
                "wallet": ADDRESS,
                "balance": AMOUNT,
                "available": AMOUNT,
                "held": NOTHING,
                "under_way": NOTHING,
                "charged_this_epoch": NOTHING,
                "day_limit": None,
                "day_used": NOTHING,
                "entries": [],
            },
        )
        self.says("POST", DEPOSITS, {"transactions": deposit_offer()})
        self.says("GET", WITHDRAWALS, {"results": []})
        self.takes()

    def says(self, method: str, path: str, *documents: Any, status: int = 200) -> None:
        answers = [Answer(json.dumps(each).encode(), status) for each in documents]
        self.server.on(method, path, *answers)

    def takes(self) -> None:
        """Every transaction is mined at once, and what it is for is in the books."""
        self.says("POST", TRANSACTIONS, {"hash": "0x" + "00" * 32}, status=202)

    def mines(self, *transactions: Document) -> list[str]:
        """The hashes that these have once the wallet has signed them."""
        hashes = []
        for each in transactions:
            fields = {
                key: value if key in ("to", "data") else int(value, 16)
                for key, value in each["transaction"].items()
            }
            made = Account.from_key(KEY).sign_transaction(fields)
            hashes.append("0x" + bytes(made.hash).hex())
            self.says("GET", f"{TRANSACTIONS}/{hashes[-1]}", {"state": "pending"},
                      {"state": "mined", "hash": hashes[-1]})  # fmt: skip
        return hashes

    def sent(self) -> list[str]:
        """The raw transactions that reached the server."""
        return [
            json.loads(each.body)["raw"]
            for each in self.server.asked
            if (each.method, each.path) == ("POST", TRANSACTIONS)
        ]

    def signatures(self) -> int:
        """Everything signed that the server was given, in whichever form."""
        return len(self.sent()) + sum(b"signature" in each.body for each in self.server.asked)


@pytest.fixture
def bank(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> Bank:
    monkeypatch.setenv("INFRA_URL", server.url)
    monkeypatch.setenv("INFRA_TOKEN", TOKEN)
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    return Bank(server)


def credited(bank: Bank, transaction: str) -> None:
    confirming = {"transaction": transaction, "state": "confirming", "confirmations": 0,
                  "needed": 1}  # fmt: skip
    bank.says(
        "GET", DEPOSITS, {"results": []}, {"results": [confirming]},
        {"results": [confirming | {"state": "credited"}]},
    )  # fmt: skip


def refused(bank: Bank, outcome: Outcome) -> str:
    """The refusal's words; nothing was signed."""
    assert (outcome.status, outcome.stdout) == (1, ""), outcome.stderr
    assert "Nothing was signed." in outcome.stderr
    assert bank.signatures() == 0
    return outcome.stderr


def test_a_deposit_is_signed_here_sent_in_order_and_awaited(infra: Infra, bank: Bank) -> None:
    approval, deposit = bank.mines(*deposit_offer())
    credited(bank, deposit)
    outcome = infra("deposit", "2.5IFM", "--yes", "--json")
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert (document["amount"], document["transaction"], document["state"]) == (
        AMOUNT,
        deposit,
        "credited",
    )
    assert [Account.recover_transaction(raw) for raw in bank.sent()] == [ADDRESS, ADDRESS]
    asked = [each.path for each in bank.server.asked]
    # The deposit is not sent before its approval is mined.
    assert asked.index(f"{TRANSACTIONS}/{approval}") < asked.index(f"{TRANSACTIONS}/{deposit}")
    assert asked.count(TRANSACTIONS) == 2


def test_what_will_be_signed_is_said_in_our_words(infra: Infra, bank: Bank) -> None:
    _, deposit = bank.mines(*deposit_offer())
    credited(bank, deposit)
    shown = infra("deposit", "2.5", "IFM", "--yes")
    assert shown.status == 0, shown.stderr
    assert f"let Settlement {SETTLEMENT} take 2.5 IFM of your IFM" in shown.stderr
    assert f"deposit 2.5 IFM for {ADDRESS} at Settlement {SETTLEMENT}" in shown.stderr
    assert "The gas costs at most 0.00072 ETH." in shown.stderr
    assert f"Sent {deposit}" in shown.stderr.splitlines()
    assert "Whatever the server says" not in shown.stderr + shown.stdout
    assert "Deposited    2.5 IFM (credited)" in shown.stdout.splitlines()


def test_an_approval_that_is_there_is_not_asked_for_again(infra: Infra, bank: Bank) -> None:
    [offer] = deposit_offer()[1:]
    bank.says("POST", DEPOSITS, {"transactions": [offer]})
    [deposit] = bank.mines(offer)
    credited(bank, deposit)
    assert infra("deposit", "2.5IFM", "--yes").status == 0
    assert len(bank.sent()) == 1


def test_without_yes_and_nobody_to_ask_nothing_is_signed(infra: Infra, bank: Bank) -> None:
    outcome = infra("deposit", "2.5IFM")
    assert (outcome.status, bank.signatures()) == (2, 0)
    assert "--yes" in outcome.stderr


def change(offer: list[Document], at: int, **fields: Any) -> list[Document]:
    offer[at]["transaction"].update(fields)
    return offer


def other_data(data: bytes) -> Callable[[list[Document]], list[Document]]:
    return lambda offer: change(offer, 1, data="0x" + data.hex())


LIES: dict[str, Callable[[list[Document]], object]] = {
    "to another contract": lambda offer: change(offer, 1, to=ELSEWHERE),
    "approval at another token": lambda offer: change(offer, 0, to=ELSEWHERE),
    "both contracts swapped": lambda offer: change(offer, 1, to=IFM),
    "approval for another spender": lambda offer: change(
        offer, 0, data="0x" + calldata.approve(ELSEWHERE, UNITS).hex()
    ),
    "approval of more": lambda offer: change(
        offer, 0, data="0x" + calldata.approve(SETTLEMENT, calldata.UINT256_MAX).hex()
    ),
    "another amount": other_data(calldata.deposit(ADDRESS, UNITS + 1)),
    "another account": other_data(calldata.deposit(OTHER, UNITS)),
    "another function": other_data(calldata.transfer(ADDRESS, UNITS)),
    "data with a tail": other_data(calldata.deposit(ADDRESS, UNITS) + b"\x00" * 32),
    "ether sent along": lambda offer: change(offer, 1, value=hex(1)),
    "another chain": lambda offer: change(offer, 1, chainId="0x1"),
    "insane gas": lambda offer: change(offer, 1, gas=hex(10**7)),
    "insane fee": lambda offer: change(offer, 1, maxFeePerGas=hex(10**13)),
    "insane tip": lambda offer: change(
        offer, 1, maxPriorityFeePerGas=hex(2 * 10**11), maxFeePerGas=hex(3 * 10**11)
    ),
    "a tip above the fee": lambda offer: change(offer, 1, maxPriorityFeePerGas=hex(4 * 10**9)),
    "nonces apart": lambda offer: change(offer, 1, nonce=hex(99)),
    "a transaction too many": lambda offer: [*offer, offer[1]],
    "none at all": lambda offer: [],
    "no list": lambda offer: {"0": offer},
    "no transaction": lambda offer: [offer[0], {"what": "x"}],
    "no number": lambda offer: change(offer, 1, nonce=True),
    "a negative number": lambda offer: change(offer, 1, nonce=-1),
    "no address": lambda offer: change(offer, 1, to="0x12"),
    "no data": lambda offer: change(offer, 1, data=None),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_deposit_that_is_not_what_was_asked_for_is_not_signed(
    infra: Infra, bank: Bank, lie: str
) -> None:
    bank.says("POST", DEPOSITS, {"transactions": LIES[lie](deposit_offer())})
    words = refused(bank, infra("deposit", "2.5IFM", "--yes"))
    assert "is not what you asked for" in words


def test_a_server_whose_contracts_changed_gets_no_signature_until_it_is_forgotten(
    infra: Infra, bank: Bank
) -> None:
    _, deposit = bank.mines(*deposit_offer())
    credited(bank, deposit)
    first = infra("deposit", "2.5IFM", "--yes")
    assert first.status == 0, first.stderr
    pinned = protocol.path(bank.server.url)
    assert f"kept in {pinned}" in first.stderr
    bank.server.asked.clear()
    for key, value in (("settlement", ELSEWHERE), ("ifm", ELSEWHERE), ("chain_id", 1)):
        bank.says("GET", "/api/v1/protocol", bank.protocol | {key: value})
        words = refused(bank, infra("deposit", "2.5IFM", "--yes"))
        assert "than ever before" in words
        assert f"rm {pinned}" in words
    bank.says("GET", "/api/v1/protocol", bank.protocol | {"settlement": ELSEWHERE})
    pinned.unlink()
    # The new contract is taken now, and the old offer is for another one.
    assert ELSEWHERE in refused(bank, infra("deposit", "2.5IFM", "--yes"))


def test_the_pins_are_private_and_a_broken_file_is_named(infra: Infra, bank: Bank) -> None:
    infra("deposit", "2.5IFM")
    pinned = protocol.path(bank.server.url)
    assert pinned.stat().st_mode & 0o777 == 0o600
    pinned.write_text("{}")
    outcome = infra("deposit", "2.5IFM", "--yes")
    assert (outcome.status, bank.signatures()) == (2, 0)
    assert str(pinned) in outcome.stderr


def test_another_chain_than_the_one_that_was_named_is_wrong_usage(
    infra: Infra, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_CHAIN_ID", "1")
    outcome = infra("deposit", "2.5IFM", "--yes")
    assert (outcome.status, bank.signatures()) == (2, 0)
    assert "INFRA_CHAIN_ID says 1" in outcome.stderr


def test_a_server_without_a_chain_says_so(infra: Infra, bank: Bank) -> None:
    bank.says("GET", "/api/v1/protocol", bank.protocol | {"ifm": None, "settlement": None})
    outcome = infra("deposit", "2.5IFM", "--yes")
    assert (outcome.status, bank.signatures()) == (1, 0)
    assert "is connected to no chain" in outcome.stderr


def test_another_wallet_than_the_one_that_is_signed_in_signs_nothing(
    infra: Infra, bank: Bank
) -> None:
    bank.says("GET", "/api/v1/account", {"address": OTHER})
    assert OTHER in refused(bank, infra("deposit", "2.5IFM", "--yes"))


@pytest.mark.parametrize("amount", ["0IFM", "-1IFM", "1e3", "two", "1 ETH", str(10**61)])
def test_what_is_no_amount_is_wrong_usage(infra: Infra, bank: Bank, amount: str) -> None:
    for command in ("deposit", "withdraw"):
        outcome = infra(command, "--yes", "--", *amount.split(" "))
        assert (outcome.status, outcome.stdout, bank.server.asked) == (2, "", [])


def test_a_transaction_that_reverts_fails_and_the_next_is_not_sent(
    infra: Infra, bank: Bank
) -> None:
    approval, _ = bank.mines(*deposit_offer())
    bank.says("GET", f"{TRANSACTIONS}/{approval}", {"state": "reverted"})
    outcome = infra("deposit", "2.5IFM", "--yes", "--json")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert json.loads(outcome.stderr.splitlines()[-1])["transaction"] == approval
    assert len(bank.sent()) == 1


def test_what_takes_too_long_says_that_it_goes_on(infra: Infra, bank: Bank) -> None:
    approval, _ = bank.mines(*deposit_offer())
    bank.says("GET", f"{TRANSACTIONS}/{approval}", {"state": "pending"})
    outcome = infra("deposit", "2.5IFM", "--yes", "--timeout", "0.2")
    assert outcome.status == 1
    assert "It goes on without you." in outcome.stderr


def permit() -> Document:
    return calldata.permit_typed_data(
        chain_id=CHAIN_ID, ifm=IFM, owner=ADDRESS, spender=SETTLEMENT, amount=UNITS, nonce=3,
        deadline=int(time.time()) + 3600,
    )  # fmt: skip


def test_a_relayed_deposit_signs_a_permit_and_no_transaction(infra: Infra, bank: Bank) -> None:
    made, hash_ = permit(), "0x" + "ab" * 32
    bank.says("GET", f"{DEPOSITS}/permit", made)
    relay = {"id": "r1", "state": "sent", "hash": hash_}
    bank.says("POST", DEPOSITS, {"relay": relay}, status=202)
    bank.says("GET", f"{TRANSACTIONS}/r1", {"hash": hash_, "state": "mined"})
    credited(bank, hash_)
    outcome = infra("deposit", "2.5IFM", "--relay", "--yes")
    assert outcome.status == 0, outcome.stderr
    [sent] = [json.loads(each.body) for each in bank.server.asked if each.body]
    assert (sent["amount"], sent["deadline"]) == ("2.5 IFM", int(made["message"]["deadline"]))
    signature = bytes.fromhex(sent["signature"][2:])
    assert secp256k1.recover(calldata.typed_data_digest(made), signature) == ADDRESS
    assert bank.sent() == []


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("message", "spender", ELSEWHERE),
        ("message", "owner", OTHER),
        ("message", "value", str(UNITS + 1)),
        # Named, since two workers collect it in two seconds.
        pytest.param("message", "deadline", str(int(time.time()) + 10**6), id="deadline-too-late"),
        ("message", "nonce", "none"),
        ("domain", "chainId", 1),
        ("domain", "verifyingContract", ELSEWHERE),
        ("domain", "name", "Elsewhere"),
    ],
)
def test_a_permit_that_is_not_what_was_asked_for_is_not_signed(
    infra: Infra, bank: Bank, part: str, key: str, value: Any
) -> None:
    made = permit()
    made[part][key] = value
    bank.says("GET", f"{DEPOSITS}/permit", made)
    refused(bank, infra("deposit", "2.5IFM", "--relay", "--yes"))


def test_the_faucet_gives_first_where_there_is_one(infra: Infra, bank: Bank) -> None:
    hash_ = "0x" + "fa" * 32
    _, deposit = bank.mines(*deposit_offer())
    credited(bank, deposit)
    relay = {"id": "r1", "state": "sent", "hash": hash_}
    bank.says("POST", "/api/v1/account/faucet", {"relay": relay}, status=202)
    bank.says("GET", f"{TRANSACTIONS}/r1", {"hash": hash_, "state": "mined"})
    shown = infra("deposit", "2.5IFM", "--faucet", "--yes")
    assert shown.status == 0, shown.stderr
    assert "The faucet gave your wallet test IFM" in shown.stderr
    bank.says("GET", "/api/v1/protocol", bank.protocol | {"faucet": False})
    without = infra("deposit", "2.5IFM", "--faucet", "--yes")
    assert (without.status, "gives no test IFM away" in without.stderr) == (1, True)


def voucher(**changes: Any) -> Document:
    """A withdrawal as the API answers it, signed by who signs vouchers."""
    until = int(time.time()) + 3600
    wanted: Document = {"account": ADDRESS, "cumulative": 2 * UNITS, "deadline": until,
                        "key": OTHER_KEY} | changes  # fmt: skip
    key = bytes.fromhex(wanted.pop("key")[2:])
    typed = calldata.withdrawal_typed_data(chain_id=CHAIN_ID, settlement=SETTLEMENT, **wanted)
    signature = secp256k1.sign(key, calldata.typed_data_digest(typed))
    data = calldata.withdraw(wanted["account"], wanted["cumulative"], until, signature)
    return {
        "id": "w1",
        "amount": AMOUNT,
        "cumulative": str(wanted["cumulative"]),
        "deadline": until,
        "signature": "0x" + signature.hex(),
        "state": "open",
        "transaction": unsigned(SETTLEMENT, data),
        "relay": None,
    }


def test_a_withdrawal_is_signed_here_and_awaited(infra: Infra, bank: Bank) -> None:
    made = voucher()
    bank.says("POST", WITHDRAWALS, made, status=201)
    [hash_] = bank.mines(made["transaction"])
    bank.says("GET", WITHDRAWALS, {"results": []}, {"results": [made]},
              {"results": [{"id": "w1", "state": "paid"}]})  # fmt: skip
    outcome = infra("withdraw", "2.5IFM", "--yes", "--json")
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert (document["transaction"], document["state"]) == (hash_, "paid")
    [raw] = bank.sent()
    assert Account.recover_transaction(raw) == ADDRESS


def test_a_withdrawal_that_was_begun_before_goes_on(infra: Infra, bank: Bank) -> None:
    made = voucher()
    [hash_] = bank.mines(made["transaction"])
    bank.says("GET", WITHDRAWALS, {"results": [made]}, {"results": [made | {"state": "paid"}]})
    # It is set aside already, so that nothing more is needed.
    balance = {"wallet": ADDRESS, "balance": NOTHING, "available": NOTHING}
    bank.says("GET", "/api/v1/account/balance", balance)
    outcome = infra("withdraw", "2.5IFM", "--yes", "--json")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout)["transaction"] == hash_
    bank.says("GET", WITHDRAWALS, {"results": [made]})
    other = infra("withdraw", "1IFM", "--yes")
    assert (other.status, "infra withdraw 2.5IFM" in other.stderr) == (1, True)
    assert len(bank.sent()) == 1


def test_the_server_sends_a_withdrawal_or_says_that_it_does_not(infra: Infra, bank: Bank) -> None:
    hash_ = "0x" + "cd" * 32
    relay = {"id": "0198c0de-0000-7000-8000-000000000000", "state": "queued", "hash": None}
    made = voucher() | {"transaction": None, "relay": relay}
    bank.says("POST", WITHDRAWALS, made, status=201)
    mined = {"hash": hash_, "state": "mined"}
    bank.says("GET", f"{TRANSACTIONS}/{relay['id']}", {"hash": None, "state": "pending"}, mined)
    bank.says("GET", WITHDRAWALS, {"results": []}, {"results": [made | {"state": "paid"}]})
    outcome = infra("withdraw", "2.5IFM", "--relay", "--yes", "--json")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout)["transaction"] == hash_
    bank.says("GET", WITHDRAWALS, {"results": []})
    bank.says("POST", WITHDRAWALS, voucher(), status=201)
    alone = infra("withdraw", "2.5IFM", "--relay", "--yes")
    assert (alone.status, "infra withdraw 2.5IFM" in alone.stderr) == (1, True)
    assert bank.signatures() == 0


@pytest.mark.parametrize(
    ("lie", "changes"),
    [
        ("another account", {"account": OTHER}),
        ("another signer", {"key": KEY}),
        ("less than asked", {"cumulative": UNITS - 1}),
    ],
)
def test_a_voucher_that_is_not_what_was_asked_for_is_not_cashed(
    infra: Infra, bank: Bank, lie: str, changes: Document
) -> None:
    bank.says("POST", WITHDRAWALS, voucher(**changes), status=201)
    words = refused(bank, infra("withdraw", "2.5IFM", "--yes"))
    assert "voucher" in words


def test_a_withdrawal_for_another_amount_or_by_another_call_is_not_signed(
    infra: Infra, bank: Bank
) -> None:
    half = {"amount": {"base_units": "1", "text": "x"}}
    good = voucher()
    for lie in (
        half,
        {"transaction": unsigned(SETTLEMENT, calldata.deposit(ADDRESS, UNITS))},
        {"transaction": unsigned(ELSEWHERE, bytes.fromhex(good["transaction"]["transaction"]
                                                          ["data"][2:]))},
        {"transaction": None},
        {"signature": "0x12"},
        {"cumulative": "x"},
    ):  # fmt: skip
        bank.says("POST", WITHDRAWALS, good | lie, status=201)
        refused(bank, infra("withdraw", "2.5IFM", "--yes"))


def test_more_than_there_is_is_refused_before_anything_is_set_aside(
    infra: Infra, bank: Bank
) -> None:
    outcome = infra("withdraw", "3IFM", "--yes")
    assert outcome.status == 1
    assert "2.5 IFM are available" in outcome.stderr
    assert [each.path for each in bank.server.asked if each.method == "POST"] == []


def reward(stream: bytes, cumulative: int, claimable: int, proof: list[bytes]) -> Document:
    def amount(number: int) -> Document:
        return {"base_units": str(number), "text": f"{number} units"}

    return {
        "stream": "0x" + stream.hex(),
        "subject": f"model:m{stream[0]}",
        "cumulative": amount(cumulative),
        "claimed": amount(cumulative - claimable),
        "claimable": amount(claimable),
        "pending": amount(5),
        "proof": ["0x" + node.hex() for node in proof],
        "epochs": [],
    }


ENTRIES = [(bytes([index]) * 32, 1000 + index) for index in range(3)]
TREE = Tree.of([leaf_of(ADDRESS, stream, cumulative) for stream, cumulative in ENTRIES])
CLAIM_LIST: list[calldata.Claim] = [
    (ADDRESS, stream, cumulative, TREE.proof(position))
    for position, (stream, cumulative) in enumerate(ENTRIES)
]


def rewards(claimed: bool = False, **changes: Any) -> Document:
    results = [
        reward(stream, total, 0 if claimed else 400, list(proof))
        for _, stream, total, proof in CLAIM_LIST
    ]
    return {
        "wallet": ADDRESS,
        "epoch": 1,
        "root": "0x" + TREE.root.hex(),
        "results": results,
        "claimable": {"base_units": "1200", "text": ""},
    } | changes


def claim_offer(*parts: list[calldata.Claim]) -> Document:
    return {
        "transactions": [
            unsigned(SETTLEMENT, calldata.claim_many(part), nonce=7 + index)
            for index, part in enumerate(parts)
        ],
        "relay": None,
    }


@pytest.mark.parametrize(
    "parts",
    [[CLAIM_LIST], [CLAIM_LIST[::-1]], [CLAIM_LIST[1:], CLAIM_LIST[:1]]],
    ids=["as listed", "in another order", "in two"],
)
def test_claims_are_checked_signed_here_and_awaited(
    infra: Infra, bank: Bank, parts: list[list[calldata.Claim]]
) -> None:
    offer = claim_offer(*parts)
    bank.says("POST", CLAIMS, offer, status=202)
    bank.says("GET", "/api/v1/rewards", rewards(), rewards(), rewards(claimed=True))
    hashes = bank.mines(*offer["transactions"])
    outcome = infra("rewards", "claim", "--yes", "--json")
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert (document["transactions"], document["claimed"]["base_units"]) == (hashes, "1200")
    assert len(bank.sent()) == len(parts)


def test_claims_that_are_not_what_was_asked_for_are_not_signed(infra: Infra, bank: Bank) -> None:
    bank.says("GET", "/api/v1/rewards", rewards())
    account, stream, total, proof = CLAIM_LIST[0]
    for lie in (
        claim_offer(CLAIM_LIST[1:]),
        claim_offer([*CLAIM_LIST, CLAIM_LIST[0]]),
        claim_offer([(OTHER, stream, total, proof), *CLAIM_LIST[1:]]),
        claim_offer([(account, stream, total - 1, proof), *CLAIM_LIST[1:]]),
        claim_offer([(account, bytes([9]) * 32, total, proof), *CLAIM_LIST[1:]]),
        claim_offer([(account, stream, total, proof[:-1]), *CLAIM_LIST[1:]]),
        {"transactions": [unsigned(SETTLEMENT, calldata.deposit(ADDRESS, 1))]},
        {"transactions": [unsigned(IFM, calldata.claim_many(CLAIM_LIST))]},
        {"transactions": "none"},
    ):
        bank.says("POST", CLAIMS, lie, status=202)
        refused(bank, infra("rewards", "claim", "--yes"))


def test_a_proof_that_does_not_lead_to_the_root_is_not_even_asked_for(
    infra: Infra, bank: Bank
) -> None:
    for lie in (rewards(root="0x" + "00" * 32), rewards(root=None)):
        bank.says("GET", "/api/v1/rewards", lie)
        refused(bank, infra("rewards", "claim", "--yes"))
    assert [each.path for each in bank.server.asked if each.method == "POST"] == []


def test_nothing_to_claim_is_no_failure(infra: Infra, bank: Bank) -> None:
    bank.says("GET", "/api/v1/rewards", rewards(claimed=True))
    shown = infra("rewards", "claim", "--yes")
    assert (shown.status, shown.stdout) == (0, "")
    assert "There is nothing to claim." in shown.stderr
    document = json.loads(infra("rewards", "claim", "--yes", "--json").stdout)
    assert (document["claimed"], document["transactions"]) == (NOTHING, [])


def test_rewards_are_told_by_stream(infra: Infra, bank: Bank) -> None:
    bank.says("GET", "/api/v1/rewards", rewards())
    first = infra("rewards", "status", "--model", "m0").stdout.splitlines()[0]
    assert first.split("\t") == [
        "model:m0",
        "0.000000000000001005 IFM",
        "600 units",
        "400 units",
        "5 units",
    ]
    assert bank.server.asked[-1].path == "/api/v1/rewards?model=m0"


def test_the_balance_is_told_with_its_last_entries(infra: Infra, bank: Bank) -> None:
    document = json.loads(infra("balance", "--json").stdout)
    entries = [
        {"id": "1", "at": "2026-01-02T03:04:05Z", "amount": AMOUNT, "reason": "deposit",
         "subject": "0xab"},
        {"id": "2", "at": "2026-01-02T03:04:06Z", "reason": "charge", "subject": "epoch:1",
         "amount": {"base_units": "-5", "text": "-0.5 IFM"}},
    ]  # fmt: skip
    more = {"entries": entries, "day_limit": AMOUNT, "held": AMOUNT}
    bank.says("GET", "/api/v1/account/balance", document | more)
    lines = infra("balance").stdout.splitlines()
    assert "Balance     2.5 IFM" in lines
    assert "Held        2.5 IFM for withdrawals and the like" in lines
    assert "A day       0 IFM of 2.5 IFM used today (UTC)" in lines
    assert lines[-2:] == [
        "2026-01-02T03:04:05Z\t+2.5 IFM\tdeposit\t0xab",
        "2026-01-02T03:04:06Z\t-0.5 IFM\tcharge\tepoch:1",
    ]


@pytest.mark.parametrize(("said", "sent"), [("5IFM", "5 IFM"), ("none", None)])
def test_the_limit_of_a_day_is_set_and_taken_away(
    infra: Infra, bank: Bank, said: str, sent: str | None
) -> None:
    bank.says("PUT", "/api/v1/account/limit", {})
    assert infra("balance", "--per-day", said).status == 0
    [asked] = [each for each in bank.server.asked if each.method == "PUT"]
    assert json.loads(asked.body) == {"per_day": sent}
    assert infra("balance", "--per-day", "much").status == 2


def test_a_call_without_balance_tells_price_balance_and_how_to_top_up(
    infra: Infra, bank: Bank
) -> None:
    refusal = {
        "type": "/problems/insufficient-balance",
        "status": 402,
        "detail": "The call costs 0.25 IFM, and the balance is 0.1 IFM. Nothing was charged.",
        "remedy": "Top up at http://x/account/balance, or with `infra deposit`.",
        "charged": False,
        "retry_safe": True,
    }
    bank.says("POST", "/inference/v1/m", refusal, status=402)
    outcome = infra("call", "--model", "m", "a=1")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "costs 0.25 IFM, and the balance is 0.1 IFM" in outcome.stderr
    assert "infra deposit 2.5IFM" in outcome.stderr


def test_an_answer_that_was_kept_is_told(infra: Infra, bank: Bank) -> None:
    headers = {"Inframind-Fee": "0.25 IFM", "Idempotency-Replayed": "true"}
    bank.server.on("POST", "/inference/v1/m", Answer(b"{}", headers=headers))
    arguments = ("call", "--model", "m", "a=1", "--idempotency-key", "k")
    assert json.loads(infra(*arguments, "--json").stderr)["replayed"] is True
    assert "charged once" in infra(*arguments).stderr


def test_usage_is_told_by_model_token_and_day_and_for_a_spreadsheet(
    infra: Infra, bank: Bank
) -> None:
    tally = {"calls": 2, "served": 1, "fees": AMOUNT}
    used = {
        **tally,
        "by_model": [{"model": "m-v1", **tally}],
        "by_token": [
            {"token": "0198c0de-0000-7000-8000-000000000000", "name": "=1+1", **tally},
            {"token": None, "name": None, **tally},
        ],
        "by_day": [{"day": "2026-01-01", **tally}],
    }
    bank.says("GET", "/api/v1/account/usage", used)
    lines = infra("usage").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        "last 30 days",
        "m-v1",
        "=1+1 (0198c0de-0000-7000-8000-000000000000)",
        "signed in on a page",
        "2026-01-01",
    ]
    sheet = infra("usage", "--csv").stdout.splitlines()
    assert sheet[:3] == [
        "by,what,calls,served,fee_base_units,fee",
        f"model,m-v1,2,1,{UNITS},2.5 IFM",
        f"token,'=1+1 (0198c0de-0000-7000-8000-000000000000),2,1,{UNITS},2.5 IFM",
    ]
    assert infra("usage", "--csv", "--json").status == 2


@pytest.mark.parametrize(
    "command",
    [("deposit", "1IFM"), ("withdraw", "1IFM"), ("balance",), ("rewards", "claim"),
     ("rewards", "status"), ("usage",)],
)  # fmt: skip
def test_without_a_token_nothing_is_asked(
    infra: Infra, bank: Bank, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.delenv("INFRA_TOKEN")
    assert (infra(*command).status, bank.server.asked) == (4, [])


def test_a_key_is_never_shown(infra: Infra, bank: Bank, tmp_path: Path) -> None:
    bank.says("POST", DEPOSITS, {"transactions": LIES["another amount"](deposit_offer())})
    outcome = infra("deposit", "2.5IFM", "--yes", "--json")
    assert KEY[2:] not in outcome.stdout + outcome.stderr
    assert all(KEY[2:] not in each.read_text() for each in tmp_path.rglob("*.json"))


def test_the_addresses_of_this_file_are_checksummed() -> None:
    for address in (IFM, SETTLEMENT, ELSEWHERE):
        assert checksum_address(address) == address
