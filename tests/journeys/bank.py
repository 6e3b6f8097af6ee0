"""Somebody rich on the development chain, who deposits for whoever a story is about."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Self

import httpx
from eth_account import Account

from inframind.devstack.chain import Anvil, Contracts
from inframind.devstack.processes import StackProblem
from inframind.lib import calldata
from inframind.lib.addresses import checksum_address

IFM: Final = 10**18
FUNDS: Final = 100_000_000 * IFM
GAS: Final = 500_000
# The last account of the well-known mnemonic: no story speaks as it, and anvil signs for it.
ADDRESS: Final = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720"

MINED_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Bank:
    """``rpc_url`` is the chain's, the other two are the contracts' addresses."""

    rpc_url: str
    ifm: str
    settlement: str

    @classmethod
    def founded(cls, anvil: Anvil, contracts: Contracts, key: str) -> Self:
        """With IFM of the account of ``key``, which deployed the contracts."""
        bank = cls(anvil.url, contracts.ifm, contracts.settlement)
        holder = str(Account.from_key(key).address)
        anvil.ask("anvil_impersonateAccount", holder)
        bank.send(calldata.transfer(ADDRESS, FUNDS), to=bank.ifm, sender=holder)
        anvil.ask("anvil_stopImpersonatingAccount", holder)
        bank.send(calldata.approve(bank.settlement, FUNDS), to=bank.ifm)
        return bank

    def deposit(self, account: str, amount_base_units: int) -> str:
        """Deposits for an account; the transaction's hash."""
        data = calldata.deposit(checksum_address(account), amount_base_units)
        return self.send(data, to=self.settlement)

    def give(self, account: str, amount_base_units: int) -> str:
        """IFM in the account's own hands; the transaction's hash."""
        return self.send(
            calldata.transfer(checksum_address(account), amount_base_units), to=self.ifm
        )

    def send(self, data: bytes, *, to: str, sender: str = ADDRESS) -> str:
        """A transaction of an account that anvil signs for, mined; its hash. Raises StackProblem
        where it fails."""
        # A transaction costs more in the next block than in the one that it is estimated in.
        wanted = {"from": sender, "to": to, "data": "0x" + data.hex(), "gas": hex(GAS)}
        digest: str = self.ask("eth_sendTransaction", wanted)
        deadline = time.monotonic() + MINED_SECONDS
        # anvil mines a moment after it has answered.
        while (receipt := self.ask("eth_getTransactionReceipt", digest)) is None:
            if time.monotonic() > deadline:
                raise StackProblem(f"Transaction {digest} was not mined.")
            time.sleep(0.02)
        if receipt["status"] != "0x1":
            raise StackProblem(f"The transaction {digest} failed.")
        return digest

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC call. Raises StackProblem with the node's words."""
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = httpx.post(self.rpc_url, json=document, timeout=30, trust_env=False).json()
        if "error" in answer:
            raise StackProblem(f"The chain refuses {method}: {answer['error']['message']}")
        return answer["result"]
