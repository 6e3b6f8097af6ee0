"""Contract wallets (EIP-1271) sign in where a chain is configured; asked of a real EVM."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as configured

from inframind.chain.client import Chain, ChainUnavailable, chain_at
from inframind.devstack.ports import free_ports
from inframind.identity import signin
from inframind.identity.models import Wallet
from inframind.identity.signatures import is_signed_by
from inframind.lib.problem import Problem
from tests.inframind.chain import node as evm
from tests.inframind.identity.signing import Signer, answer, ask, browser, line

OWNER = Signer.fresh()
YES = bytes.fromhex("1626ba7e") + bytes(28)
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def chain() -> Iterator[evm.Node]:
    with evm.running() as node:
        yield node


@pytest.fixture
def on_chain(chain: evm.Node, settings: Any) -> evm.Node:
    settings.ETH_RPC_URL = chain.url
    settings.CHAIN_ID = chain.chain_id
    return chain


@pytest.fixture(scope="module")
def wallet(chain: evm.Node) -> str:
    return chain.deploy(evm.wallet_of(OWNER.address))


def test_a_contract_wallet_signs_in_by_its_owners_key(on_chain: evm.Node, wallet: str) -> None:
    client = browser()
    message = ask(client, wallet)
    assert answer(client, message, OWNER.sign(message)).status_code == 302
    assert Wallet.objects.get().address == wallet


def test_the_contract_decides(on_chain: evm.Node, wallet: str) -> None:
    assert is_signed_by(wallet, "hello", OWNER.sign("hello"))
    assert not is_signed_by(wallet, "hello", OWNER.sign("hello!"))
    assert not is_signed_by(wallet, "hello", Signer.fresh().sign("hello"))
    with pytest.raises(ValueError, match="65 bytes, not 2"):
        is_signed_by(wallet, "hello", "0x1234")


def test_a_signature_of_any_length_is_the_contracts_own_affair(on_chain: evm.Node) -> None:
    easy = on_chain.deploy(evm.answers(YES))
    for signature in ("0x", "0x12", "0x" + "ab" * 4_096):
        assert is_signed_by(easy, "hello", signature)
    with pytest.raises(ValueError, match="at most 4096 bytes"):
        is_signed_by(easy, "hello", "0x" + "ab" * 4_097)


@pytest.mark.parametrize(
    "word",
    [bytes(32), b"\xff" * 32, YES[:31] + b"\x01", bytes(28) + YES[:4], (1).to_bytes(32, "big")],
    ids=["zeros", "ones", "a bit more", "padded left", "true"],
)
def test_nothing_but_the_exact_word_is_a_yes(on_chain: evm.Node, word: bytes) -> None:
    contract = on_chain.deploy(evm.answers(word))
    assert not is_signed_by(contract, "hello", OWNER.sign("hello"))


def test_an_address_without_code_is_no_contract(on_chain: evm.Node) -> None:
    nobody = Signer.fresh()
    assert not is_signed_by(nobody.address, "hello", OWNER.sign("hello"))
    assert is_signed_by(nobody.address, "hello", nobody.sign("hello"))


def test_without_a_chain_a_contract_wallet_is_a_wallet_that_did_not_sign(wallet: str) -> None:
    assert configured.ETH_RPC_URL == ""
    assert not is_signed_by(wallet, "hello", OWNER.sign("hello"))


def enter(address: str) -> Problem:
    row = signin.issue_nonce(remote_address=line())
    message = str(signin.message_for(row, address))
    with pytest.raises(Problem) as caught:
        signin.sign_in(
            message=message,
            signature=OWNER.sign(message),
            yields=lambda wallet: wallet,
            remote_address=line(),
        )
    return caught.value


def test_a_chain_that_does_not_answer_is_a_503_that_says_what_to_do(
    wallet: str, settings: Any
) -> None:
    [port] = free_ports(1)
    settings.ETH_RPC_URL = f"http://127.0.0.1:{port}"
    problem = enter(wallet)
    assert (problem.status, problem.code) == (503, "chain-unavailable")
    assert problem.retry_after_seconds == 60
    assert str(port) not in problem.detail + problem.remedy
    client = browser()
    message = ask(client, wallet)
    page = answer(client, message, OWNER.sign(message))
    assert (page.status_code, page.headers["Retry-After"]) == (503, "60")
    assert "the chain that would know whether it is a contract wallet" in page.content.decode()
    # Wallets with a key need no chain.
    assert is_signed_by(OWNER.address, "hello", OWNER.sign("hello"))


def test_the_wrong_chain_is_not_believed(chain: evm.Node, wallet: str, settings: Any) -> None:
    settings.ETH_RPC_URL = chain.url
    settings.CHAIN_ID = 1
    assert enter(wallet).code == "chain-unavailable"


def test_what_is_no_node_is_unavailable(live_server: Any) -> None:
    with pytest.raises(ChainUnavailable):
        Chain(f"{live_server.url}/livez", 1).code_at(OWNER.address)


def test_one_client_serves_the_process(chain: evm.Node) -> None:
    assert chain_at(chain.url, 1) is chain_at(chain.url, 1)


def test_nothing_is_loaded_before_a_chain_is_asked() -> None:
    """Importing web3 costs seconds and lifts the recursion limit of the process."""
    program = (
        "import sys, os, django\n"
        "os.environ['DJANGO_SETTINGS_MODULE'] = 'inframind.settings'\n"
        "django.setup()\n"
        "from inframind.identity import signin\n"
        "limit = sys.getrecursionlimit()\n"
        "print('web3' in sys.modules, 'eth_account' in sys.modules)\n"
        "from inframind.chain.client import chain_at\n"
        "chain_at('http://127.0.0.1:1', 1)\n"
        "print('web3' in sys.modules, limit == sys.getrecursionlimit())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["False", "False", "True", "True"]
