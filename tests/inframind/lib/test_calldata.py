"""Call data and typed data, against the contracts' own interface and another library."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from web3 import Web3

from inframind.chain.artefacts import abi
from inframind.lib import calldata, secp256k1
from inframind.lib.addresses import checksum_address

ONE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
TWO = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
WORD, OTHER = b"\1" * 32, b"\2" * 32

addresses = st.binary(min_size=20, max_size=20).map(
    lambda each: checksum_address("0x" + each.hex())
)
amounts = st.integers(0, 2**256 - 1)
words = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(
    ("contract", "name", "arguments", "data"),
    [
        ("IFM", "approve", [ONE, 5], calldata.approve(ONE, 5)),
        ("IFM", "transfer", [ONE, 5], calldata.transfer(ONE, 5)),
        ("Settlement", "deposit", [ONE, 5], calldata.deposit(ONE, 5)),
        (
            "Settlement",
            "depositWithPermit",
            [ONE, TWO, 5, 99, 28, WORD, OTHER],
            calldata.deposit_with_permit(ONE, TWO, 5, 99, WORD + OTHER + b"\x1c"),
        ),
        (
            "Settlement",
            "depositWithPermit",
            [ONE, TWO, 5, 99, 27, WORD, OTHER],
            calldata.deposit_with_permit(ONE, TWO, 5, 99, WORD + OTHER + b"\x00"),
        ),
        ("Settlement", "claim", [ONE, WORD, 5, [OTHER]], calldata.claim(ONE, WORD, 5, [OTHER])),
        (
            "Settlement",
            "claimMany",
            [[(ONE, WORD, 5, [OTHER, WORD]), (TWO, OTHER, 6, [])]],
            calldata.claim_many([(ONE, WORD, 5, [OTHER, WORD]), (TWO, OTHER, 6, [])]),
        ),
        (
            "Settlement",
            "withdraw",
            [ONE, 5, 99, b"\3" * 65],
            calldata.withdraw(ONE, 5, 99, b"\3" * 65),
        ),
        (
            "Settlement",
            "proposeRoot",
            [7, WORD, 5, "ipfs://x"],
            calldata.propose_root(7, WORD, 5, "ipfs://x"),
        ),
    ],
)  # fmt: skip
def test_call_data_is_what_the_contracts_take(
    contract: Any, name: str, arguments: list[Any], data: bytes
) -> None:
    interface = Web3().eth.contract(abi=abi(contract))
    assert "0x" + data.hex() == interface.encode_abi(name, args=arguments)
    assert calldata.read(data).function == name


@given(st.lists(st.tuples(addresses, words, amounts, st.lists(words, max_size=4)), max_size=4))
def test_claims_are_read_as_they_were_written(claims: list[Any]) -> None:
    data = calldata.claim_many(claims)
    assert calldata.read(data) == calldata.Call("claimMany", {"claims": claims})


@given(account=addresses, amount=amounts)
def test_a_deposit_is_read_as_it_was_written(account: str, amount: int) -> None:
    read = calldata.read(calldata.deposit(account, amount))
    assert read == calldata.Call("deposit", {"account": account, "amount": amount})


@given(st.binary(max_size=400))
def test_other_octets_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"function|decode|usual"):
        calldata.read(data)


@pytest.mark.parametrize("octets", [b"\0", b"\0" * 32])
def test_more_than_the_arguments_is_refused(octets: bytes) -> None:
    with pytest.raises(ValueError, match="usual form"):
        calldata.read(calldata.deposit(ONE, 5) + octets)


@pytest.mark.parametrize("signature", [b"", bytes(64), bytes(66), bytes(64) + b"\x1d"])
def test_a_permit_takes_a_signature(signature: bytes) -> None:
    with pytest.raises(ValueError, match="signature"):
        calldata.deposit_with_permit(ONE, TWO, 5, 99, signature)


@pytest.mark.parametrize(
    "document",
    [
        calldata.permit_typed_data(
            chain_id=31_337,
            ifm=ONE,
            owner=TWO,
            spender=ONE,
            amount=2**256 - 1,
            nonce=3,
            deadline=2**40,
        ),
        calldata.withdrawal_typed_data(
            chain_id=1, settlement=TWO, account=ONE, cumulative=10**30, deadline=99
        ),
    ],
)
def test_typed_data_is_signed_as_another_library_signs_it(document: dict[str, Any]) -> None:
    key = b"\7" * 32
    whole = {
        name: int(value) if value.isdigit() else value
        for name, value in document["message"].items()
    }
    theirs = Account.sign_typed_data(key, full_message={**document, "message": whole})
    ours = secp256k1.sign(key, calldata.typed_data_digest(document))
    assert bytes(theirs.signature) == ours
