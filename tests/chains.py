"""The chain of a test: anvil with our contracts, its accounts, and a way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from eth_account import Account
from eth_account.hdaccount import ETHEREUM_DEFAULT_PATH
from eth_account.signers.local import LocalAccount

from inframind.chain.deploy import Deployed, deploy
from inframind.devstack.chain import (
    ACCOUNTS,
    CHAIN_ID,
    DAILY_CAP,
    GAS_MONEY,
    MNEMONIC,
    SUPPLY,
    Anvil,
)

# The account that deployed: admin, proposer, guardian, pauser, signer of vouchers.
OPERATOR_KEY: Final = "0x" + "5e" * 32


@dataclass(frozen=True, slots=True)
class DevChain:
    """A running chain of which a test may do anything.

    ``accounts`` are the mnemonic's ten (``.address``, ``.key``), rich in ETH and without IFM;
    ``key`` is the operator's, who holds all IFM and every role.
    """

    anvil: Anvil
    accounts: tuple[LocalAccount, ...]
    key: str
    deployed: Deployed

    @property
    def rpc_url(self) -> str:
        return self.anvil.url

    @property
    def operator(self) -> LocalAccount:
        account: LocalAccount = Account.from_key(self.key)
        return account

    @property
    def ifm(self) -> str:
        return self.deployed.ifm

    @property
    def settlement(self) -> str:
        return self.deployed.settlement

    @property
    def block(self) -> int:
        """No event of the contracts is older than this block."""
        return self.deployed.block

    def rpc(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC call. Raises StackProblem with the node's words."""
        return self.anvil.ask(method, *params)

    def send(self, sender: str, to: str, data: bytes, **more: Any) -> str:
        """The hash of a transaction of any account; where blocks come by themselves, it is in
        one."""
        self.rpc("anvil_impersonateAccount", sender)
        wanted = {"from": sender, "to": to, "data": "0x" + data.hex()} | more
        sent = str(self.rpc("eth_sendTransaction", wanted))
        if self.rpc("anvil_getAutomine"):
            self.receipt(sent)
        return sent

    def receipt(self, transaction_hash: str) -> Any:
        """Of a transaction that is mined at once, which takes a busy machine a moment."""
        for _ in range(500):
            found = self.rpc("eth_getTransactionReceipt", transaction_hash)
            if found is not None:
                return found
            time.sleep(0.02)
        raise AssertionError(f"{transaction_hash} is not mined")

    def settings(self) -> dict[str, Any]:
        """The Django settings of an application on this chain."""
        return {
            "ETH_RPC_URL": self.rpc_url,
            "CHAIN_ID": CHAIN_ID,
            "IFM_ADDRESS": self.ifm,
            "SETTLEMENT_ADDRESS": self.settlement,
            "SETTLEMENT_BLOCK": self.block,
            "CHAIN_CONFIRMATIONS": 1,
            "CHAIN_KEY": self.key,
            "FAUCET": True,
        }

    @contextmanager
    def undone_afterwards(self) -> Iterator[None]:
        """Blocks, balances, nonces, clock: all as before."""
        snapshot = self.rpc("evm_snapshot")
        try:
            yield
        finally:
            assert self.rpc("evm_revert", snapshot) is True
            # Going back takes the clock along; the next test's begins at the real time again.
            self.rpc("anvil_setTime", int(time.time()))


def deployed_chain(anvil: Anvil) -> DevChain:
    """The contracts, deployed on a fresh chain by the operator."""
    Account.enable_unaudited_hdwallet_features()
    path = ETHEREUM_DEFAULT_PATH.removesuffix("0")
    accounts = tuple(
        Account.from_mnemonic(MNEMONIC, account_path=f"{path}{index}") for index in range(ACCOUNTS)
    )
    anvil.ask("anvil_setBalance", Account.from_key(OPERATOR_KEY).address, hex(GAS_MONEY))
    deployed = deploy(
        anvil.url,
        OPERATOR_KEY,
        challenge_seconds=0,
        admin_delay_seconds=0,
        daily_cap=DAILY_CAP,
        supply=SUPPLY,
    )
    return DevChain(anvil, accounts, OPERATOR_KEY, deployed)
