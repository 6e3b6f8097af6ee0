"""Which wallet signed a text."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.identity.signatures import signer_of

# The second account of the well-known development mnemonic.
KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
ADDRESS = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def sign(text: str) -> str:
    from eth_account import Account
    from eth_account.messages import encode_defunct

    signature: str = Account.sign_message(encode_defunct(text=text), KEY).signature.to_0x_hex()
    return signature


def test_a_signature_names_its_wallet() -> None:
    assert signer_of("hello", sign("hello")) == ADDRESS


def test_another_text_is_another_signer_or_none() -> None:
    assert signer_of("hello!", sign("hello")) != ADDRESS


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=65, max_size=65))
def test_noise_is_refused_or_a_stranger(octets: bytes) -> None:
    try:
        signer = signer_of("hello", octets.hex())
    except ValueError:
        signer = "nobody"
    assert signer != ADDRESS


@pytest.mark.parametrize("signature", ["", "0x", "0x12", "zz" * 65, "00" * 64, "00" * 66])
def test_what_is_no_signature_is_a_value_error(signature: str) -> None:
    with pytest.raises(ValueError):
        signer_of("hello", signature)


def test_the_recursion_limit_stays_what_it_was() -> None:
    program = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from inframind.identity.signatures import signer_of\n"
        f"signer_of('hello', {sign('hello')!r})\n"
        "print(before == sys.getrecursionlimit())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "True"
