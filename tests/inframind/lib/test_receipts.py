"""Receipts: laid out as the chain lays things out, signed as wallets sign, checked to the last
word."""

from __future__ import annotations

import copy
import secrets
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from eth_abi.abi import encode
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib import receipts, secp256k1
from inframind.lib.addresses import checksum_address
from inframind.lib.merkle import Tree, keccak

KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
SIGNER = secp256k1.address_of_key(KEY)
CHAIN_ID = 31_337
CALLER = "0x3333333333333333333333333333333333333333"
SALT = bytes(range(16))
CALL_ID = UUID("019ab3c0-0000-7000-8000-000000000001")
IN, OUT = "sha256:" + "11" * 32, "sha256:" + "22" * 32
TIME_US = 1_764_000_000_123_456


def details(**changed: Any) -> receipts.Details:
    given: dict[str, Any] = {
        "model": "doubler-v1@1.0.0",
        "cid": "bafyexample",
        "node": "node-a",
        "caller": CALLER,
        "input_commitment": receipts.input_commitment(SALT, IN),
        "output_commitment": receipts.output_commitment(SALT, OUT),
        "latency_us": 12_345,
        "outcome": "served",
        "time_us": TIME_US,
        "parameters_version": 1,
    }
    return receipts.Details(**{**given, **changed})


@dataclass(frozen=True)
class Call:
    """All that a leaf takes but what its batch gives."""

    call_id: UUID
    model: str
    cid: str
    node_name: str
    wallet: str | None
    input_digest: str
    output_digest: str
    latency_us: int
    outcome: str
    fee_base_units: int
    salt: bytes


words = st.integers(0, 2**256 - 1)
digests = st.binary(min_size=32, max_size=32).map(lambda octets: f"sha256:{octets.hex()}")
calls = st.builds(
    Call,
    call_id=st.uuids(),
    model=st.text(),
    cid=st.text(),
    node_name=st.text(),
    wallet=st.none()
    | st.binary(min_size=20, max_size=20).map(lambda octets: checksum_address(f"0x{octets.hex()}")),
    input_digest=digests,
    output_digest=st.just("") | digests,
    latency_us=words,
    outcome=st.text(),
    fee_base_units=words,
    salt=st.binary(min_size=16, max_size=16),
)


@given(st.lists(calls, max_size=5), words, words)
def test_the_leaves_of_a_batch_are_those_of_each_call_by_itself(
    batch: list[Call], time_us: int, version: int
) -> None:
    alone = [
        receipts.leaf(
            call.call_id,
            call.fee_base_units,
            receipts.commitment(
                call.salt,
                receipts.Details(
                    model=call.model,
                    cid=call.cid,
                    node=call.node_name,
                    caller=call.wallet,
                    input_commitment=receipts.input_commitment(call.salt, call.input_digest),
                    output_commitment=receipts.output_commitment(call.salt, call.output_digest),
                    latency_us=call.latency_us,
                    outcome=call.outcome,
                    time_us=time_us,
                    parameters_version=version,
                ).digest(),
            ),
        )
        for call in batch
    ]
    assert receipts.leaves_of(batch, time_us=time_us, parameters_version=version) == alone


def document(**changed: Any) -> dict[str, Any]:
    """A whole receipt among seven, as the API shows it."""
    committed = receipts.commitment(SALT, details().digest())
    leaf = receipts.leaf(CALL_ID, 250, committed)
    tree = Tree.of([leaf, *(secrets.token_bytes(32) for _ in range(6))])
    digest = receipts.batch_digest(
        root=tree.root, epoch=4, count=7, fees_base_units=900, time_us=TIME_US, chain_id=CHAIN_ID
    )
    found = {
        "id": str(CALL_ID),
        "model": "doubler-v1@1.0.0",
        "cid": "bafyexample",
        "node": "node-a",
        "outcome": "served",
        "fee": {"base_units": "250", "text": "0.00000000000000025 IFM"},
        "latency_ms": 12.345,
        "created_at": "2025-11-24T16:00:00.123456Z",
        "epoch": 4,
        "parameters_version": 1,
        "commitment": "0x" + committed.hex(),
        "input_commitment": "0x" + receipts.input_commitment(SALT, IN).hex(),
        "output_commitment": "0x" + receipts.output_commitment(SALT, OUT).hex(),
        "leaf": "0x" + leaf.hex(),
        "proof": ["0x" + each.hex() for each in tree.proof(0)],
        "batch": {
            "id": str(CALL_ID),
            "root": "0x" + tree.root.hex(),
            "count": 7,
            "fees": {"base_units": "900", "text": ""},
            "time": TIME_US,
            "signer": SIGNER,
            "signature": "0x" + secp256k1.sign(KEY, digest).hex(),
        },
        "whole": True,
        "caller": CALLER,
        "salt": "0x" + SALT.hex(),
        "input_digest": IN,
        "output_digest": OUT,
    }
    return {**found, **changed}


def wrongs(found: dict[str, Any]) -> list[str]:
    return receipts.verify(found, signer=SIGNER, chain_id=CHAIN_ID)


def test_details_are_laid_out_as_abi_encode_does() -> None:
    found = details()
    expected = encode(
        ["bytes32", "bytes32", "bytes32", "address", "bytes32", "bytes32", "uint256", "bytes32",
         "uint256", "uint256"],
        [keccak(b"doubler-v1@1.0.0"), keccak(b"bafyexample"), keccak(b"node-a"), CALLER,
         keccak(SALT + b"input" + b"\x11" * 32), keccak(SALT + b"output" + b"\x22" * 32), 12_345,
         keccak(b"served"), TIME_US, 1],
    )  # fmt: skip
    assert found.digest() == keccak(expected)
    anonymous = encode(["address"], ["0x" + "00" * 20])
    assert details(caller=None).digest() == keccak(expected[:96] + anonymous + expected[128:])
    committed = receipts.commitment(SALT, found.digest())
    assert committed == keccak(SALT + bytes(16) + found.digest())
    assert receipts.leaf(CALL_ID, 250, committed) == keccak(
        keccak(
            encode(["bytes32", "uint256", "bytes32"], [CALL_ID.bytes + bytes(16), 250, committed])
        )
    )
    assert receipts.epoch_leaf(committed, 3, 9) == keccak(
        keccak(encode(["bytes32", "uint256", "uint256"], [committed, 3, 9]))
    )


def test_a_call_that_was_not_served_commits_to_no_output() -> None:
    assert receipts.output_commitment(SALT, "") == bytes(32)


@pytest.mark.parametrize("digest", ["", "sha256:11", "11" * 32, "sha256:" + "xx" * 32])
def test_what_is_no_digest_is_a_value_error(digest: str) -> None:
    with pytest.raises(ValueError):
        receipts.input_commitment(SALT, digest)


def test_a_batch_is_signed_as_eth_account_signs_its_typed_data() -> None:
    for number in (0, 1, 2**32 - 1):
        batch: dict[str, Any] = {
            "root": secrets.token_bytes(32),
            "epoch": number,
            "count": number,
            "fees_base_units": number**4,
            "time_us": TIME_US,
            "chain_id": number + 1,
        }
        signed = Account.sign_typed_data(KEY, full_message=receipts.typed_data(**batch))
        digest = receipts.batch_digest(**batch)
        assert digest == bytes(signed.message_hash)
        assert secp256k1.sign(KEY, digest) == bytes(signed.signature)


def test_a_receipt_and_its_public_view_have_nothing_wrong() -> None:
    whole = document()
    assert wrongs(whole) == []
    hidden = ("caller", "salt", "input_digest", "output_digest")
    public = {name: value for name, value in whole.items() if name not in hidden}
    assert wrongs({**public, "whole": False}) == []


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("fee", {"base_units": "249"}, "leaf"),
        ("id", "019ab3c0-0000-7000-8000-000000000002", "leaf"),
        ("commitment", "0x" + "00" * 32, "leaf"),
        ("leaf", "0x" + "00" * 32, "leaf"),
        ("proof", [], "path"),
        ("epoch", 5, "signed by"),
        ("created_at", "2025-11-24T16:00:00.123457+00:00", "time"),
        ("outcome", "timed-out", "not served"),
        ("model", "doubler-v1@1.0.1", "committed to"),
        ("cid", "bafyother", "committed to"),
        ("node", "node-b", "committed to"),
        ("caller", None, "committed to"),
        ("latency_ms", 12.346, "committed to"),
        ("parameters_version", 2, "committed to"),
        ("salt", "0x" + "00" * 16, "its input"),
        ("input_digest", "sha256:" + "33" * 32, "its input"),
        ("output_digest", "sha256:" + "33" * 32, "its output"),
        ("batch", None, "before receipts were signed"),
        ("fee", None, "can be read"),
        ("proof", ["0x00"], "can be read"),
    ],
)
def test_whatever_is_changed_is_noticed(field: str, value: Any, reason: str) -> None:
    found = wrongs(document(**{field: value}))
    assert any(reason in each for each in found), found


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 8),
        ("fees", {"base_units": "901"}),
        ("time", TIME_US + 1),
        ("root", "0x" + "01" * 32),
    ],
)
def test_whatever_is_changed_in_the_batch_is_noticed(field: str, value: Any) -> None:
    found = copy.deepcopy(document())
    found["batch"][field] = value
    assert any("signed by" in each for each in wrongs(found))


def test_the_signer_and_the_chain_are_the_verifiers_and_not_the_receipts() -> None:
    assert receipts.verify(document(), signer=CALLER, chain_id=CHAIN_ID)
    assert receipts.verify(document(), signer=SIGNER, chain_id=1)


def test_the_key_is_the_configured_one_or_comes_from_the_secret() -> None:
    assert (
        receipts.signing_key(KEY.hex(), "any") == receipts.signing_key("0x" + KEY.hex(), "") == KEY
    )
    derived = receipts.signing_key("", "a secret")
    assert derived == receipts.signing_key("", "a secret") != receipts.signing_key("", "another")
    with pytest.raises(ValueError):
        receipts.signing_key("00" * 32, "")
