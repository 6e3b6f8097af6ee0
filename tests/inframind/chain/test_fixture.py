"""The fixture ``chain`` itself: what a test does to it is gone for the next one."""

from __future__ import annotations

import time

import pytest

from tests.chains import DevChain


@pytest.mark.parametrize("run", range(3))
def test_each_test_finds_the_chain_as_it_was(chain: DevChain, run: int) -> None:
    assert int(chain.rpc("eth_blockNumber"), 16) == 6
    assert chain.rpc("eth_getBalance", chain.accounts[0].address, "latest") == hex(10_000 * 10**18)
    value = {"from": chain.accounts[0].address, "to": chain.accounts[1].address, "value": "0x1"}
    chain.rpc("eth_sendTransaction", value)
    chain.rpc("evm_mine")
    block = chain.rpc("eth_getBlockByNumber", "latest", False)
    assert abs(int(block["timestamp"], 16) - time.time()) < 60
    chain.rpc("evm_increaseTime", 100_000)
    chain.rpc("evm_mine")
