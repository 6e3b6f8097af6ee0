"""Even a token that calls back in the middle of a transfer is paid out once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inframind.chain.artefacts import abi, bytecode
from inframind.devstack.chaintools import compile_contracts, ensure_chain_tools
from inframind.devstack.processes import Children
from tests.billing.contracts.onchain import FAR, Contracts, Tree, refusal, stream
from tests.chains import DevChain


@pytest.fixture(scope="module")
def token_artefact(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("token")
    children = Children(folder / "log")
    try:
        tools = ensure_chain_tools(children, say=print)
        sources = Path(__file__).with_name("solidity")
        compile_contracts(children, tools, folder, sources=sources)
    finally:
        children.close()
    artefact: dict[str, Any] = json.loads((folder / "ReentrantToken.json").read_text())
    return artefact


def created(contracts: Contracts, interface: Any, code: Any, *arguments: Any) -> str:
    factory = contracts.web3.eth.contract(abi=interface, bytecode=code)
    sent = factory.constructor(*arguments).transact({"from": contracts.operator})
    return str(contracts.web3.eth.wait_for_transaction_receipt(sent)["contractAddress"])


def test_no_call_gets_in_while_another_is_paying(
    chain: DevChain, token_artefact: dict[str, Any]
) -> None:
    outer = Contracts(chain, chain.ifm, chain.settlement)
    operator = outer.operator
    token_address = created(
        outer, token_artefact["abi"], token_artefact["bytecode"], operator, 10_000
    )
    address = created(
        outer, abi("Settlement"), bytecode("Settlement"), token_address, operator, 0, 0, 10_000
    )
    contracts = Contracts(chain, token_address, address)
    for role in ("PROPOSER_ROLE", "VOUCHER_ROLE"):
        contracts.send("grantRole", contracts.read(role), operator)
    token = contracts.web3.eth.contract(address=token_address, abi=token_artefact["abi"])  # type: ignore[call-overload]
    contracts.fund(1000)
    contracts.sent(token.functions.approve(address, 100), operator)
    account = str(chain.accounts[0].address)
    leaf = (account, stream("model:one"), 500)
    tree = Tree([leaf])
    contracts.send("proposeRoot", 1, tree.root, 500, "")

    functions = contracts.settlement.functions
    calls = [
        functions.claim(*leaf, tree.proof(leaf)),
        functions.claimMany([(*leaf, tree.proof(leaf))]),
        functions.withdraw(account, 500, FAR, contracts.voucher(account, 500)),
        functions.deposit(account, 100),
    ]
    for paying in calls:
        for entering in calls:
            data = entering._encode_transaction_data()
            contracts.sent(token.functions.arm(address, data), operator)
            assert refusal(paying, operator) == ("ReentrancyGuardReentrantCall",)
    # Disarmed, each of them is good: claims first, then what is left.
    contracts.sent(token.functions.arm("0x" + "00" * 20, b""), operator)
    for call in (calls[0], *calls[2:]):
        contracts.sent(call, operator)
    assert contracts.balance(account) == 1000
    assert contracts.read("held") == 100
