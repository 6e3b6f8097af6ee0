"""The embedded chain: it goes on where it was, or says why it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from inframind.chain.deploy import deploy
from inframind.chain.errors import ChainUnavailable
from inframind.devstack.chain import (
    CHAIN_ID,
    SUPPLY,
    Anvil,
    ensure_contracts,
    start_anvil,
)
from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.nodevenv import ROOT
from inframind.devstack.processes import Children, StackProblem
from inframind.devstack.secrets import fresh_secrets, kept_secrets, write_private
from inframind.lib.secp256k1 import address_of_key

KEY = "0x" + "17" * 32


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    all_of_them = Children(tmp_path / "log")
    try:
        yield all_of_them
    finally:
        all_of_them.close()


def started(children: Children, folder: Path) -> Anvil:
    tools = ensure_chain_tools(children, say=print)
    return start_anvil(children, tools, state=folder / "chain" / "state.json")


def past(anvil: Anvil) -> list[list[Any]]:
    """Everything of its past that somebody may ask for."""
    height = int(anvil.ask("eth_blockNumber"), 16)
    blocks = [anvil.ask("eth_getBlockByNumber", hex(each), True) for each in range(height + 1)]
    receipts = [
        anvil.ask("eth_getTransactionReceipt", each["hash"])
        for block in blocks
        for each in block["transactions"]
    ]
    logs = anvil.ask("eth_getLogs", {"fromBlock": "0x0"})
    assert len(logs) > 5
    return [blocks, receipts, logs]


def test_a_restart_keeps_the_contracts_the_blocks_and_the_events(
    children: Children, tmp_path: Path
) -> None:
    kept = tmp_path / "chain" / "contracts.json"
    first = started(children, tmp_path)
    contracts = ensure_contracts(first, kept=kept, key=KEY)
    assert json.loads(kept.read_text()) == asdict(contracts)
    assert int(first.ask("eth_chainId"), 16) == CHAIN_ID
    before = past(first)
    first.child.stop()

    second = started(children, tmp_path)
    assert past(second) == before
    assert ensure_contracts(second, kept=kept, key=KEY) == contracts
    assert past(second) == before
    supply = second.ask("eth_call", {"to": contracts.ifm, "data": "0x18160ddd"}, "latest")
    assert int(supply, 16) == SUPPLY
    # And it goes on: the next block is the next one, and not in the past.
    second.ask("evm_mine")
    block = second.ask("eth_getBlockByNumber", "latest", False)
    assert int(block["number"], 16) == len(before[0])
    assert abs(int(block["timestamp"], 16) - time.time()) < 60


def test_a_killed_chain_keeps_what_is_a_second_old(children: Children, tmp_path: Path) -> None:
    kept = tmp_path / "chain" / "contracts.json"
    first = started(children, tmp_path)
    contracts = ensure_contracts(first, kept=kept, key=KEY)
    before = past(first)
    time.sleep(3)
    first.child.kill()

    second = started(children, tmp_path)
    assert ensure_contracts(second, kept=kept, key=KEY) == contracts
    assert past(second) == before


def test_a_lost_state_is_said_and_not_papered_over(children: Children, tmp_path: Path) -> None:
    kept = tmp_path / "chain" / "contracts.json"
    first = started(children, tmp_path)
    contracts = ensure_contracts(first, kept=kept, key=KEY)
    first.child.stop()
    (tmp_path / "chain" / "state.json").unlink()

    second = started(children, tmp_path)
    with pytest.raises(StackProblem) as told:
        ensure_contracts(second, kept=kept, key=KEY)
    assert str(told.value) == (
        f"{kept} says that a contract is at {contracts.ifm}, but the chain has none there: its "
        f"state ({tmp_path}/chain/state.json) was lost, while the database still counts what was "
        "paid on it. Put the state back, or start over with both: stop the stack, remove "
        f"{tmp_path}/chain and {tmp_path}/postgres, and start it again."
    )
    assert int(second.ask("eth_blockNumber"), 16) == 0


def test_its_log_does_not_grow_with_every_question(children: Children, tmp_path: Path) -> None:
    anvil = started(children, tmp_path)
    assert anvil.child.log is not None
    size = anvil.child.log.stat().st_size
    for _ in range(20):
        anvil.ask("eth_blockNumber")
    anvil.child.stop()
    assert anvil.child.log.read_text().count("eth_blockNumber") == 0
    assert anvil.child.log.stat().st_size < size + 200


def test_what_the_chain_refuses_is_told_in_its_words(children: Children, tmp_path: Path) -> None:
    anvil = started(children, tmp_path)
    with pytest.raises(StackProblem, match="The chain refuses eth_nonsense: "):
        anvil.ask("eth_nonsense")
    anvil.child.stop()
    with pytest.raises(StackProblem, match="The chain does not answer eth_chainId: "):
        anvil.ask("eth_chainId")


def test_secrets_of_an_older_stack_get_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    older = {name: text for name, text in asdict(fresh_secrets()).items() if name != "chain"}
    write_private(path, older)

    first = kept_secrets(path)
    assert asdict(first) == {**older, "chain": first.chain}
    assert address_of_key(bytes.fromhex(first.chain.removeprefix("0x"))).startswith("0x")
    assert kept_secrets(path) == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_deploying_leaves_pythons_recursion_limit_as_it_was(
    children: Children, tmp_path: Path
) -> None:
    anvil = start_anvil(children, ensure_chain_tools(children, say=print))
    anvil.ask("anvil_setBalance", address_of_key(bytes.fromhex(KEY[2:])), hex(10**20))
    program = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from inframind.chain.deploy import deploy\n"
        f"deploy({anvil.url!r}, {KEY!r}, challenge_seconds=0, admin_delay_seconds=0, "
        "daily_cap=1, supply=1)\n"
        "sys.exit(sys.getrecursionlimit() != before)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, check=True)


def test_a_deployment_that_cannot_be_says_why(children: Children, tmp_path: Path) -> None:
    anvil = start_anvil(children, ensure_chain_tools(children, say=print))
    again = partial(
        deploy, anvil.url, KEY, challenge_seconds=0, admin_delay_seconds=0, daily_cap=1, supply=1
    )
    with pytest.raises(ChainUnavailable, match="Insufficient funds"):
        again()
    anvil.child.stop()
    with pytest.raises(ChainUnavailable, match="Connection"):
        again()
