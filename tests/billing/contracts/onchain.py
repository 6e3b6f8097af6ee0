"""The contracts as the tests speak to them: calls, exact refusals, trees, vouchers, permits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from web3 import HTTPProvider, Web3
from web3.contract.base_contract import BaseContractFunction
from web3.exceptions import ContractCustomError
from web3.types import TxReceipt

from inframind.chain.artefacts import abi
from inframind.chain.deploy import deploy
from inframind.devstack.chain import DAILY_CAP, SUPPLY
from tests.chains import DevChain

GAS = 2_000_000
DAY = 86_400
FAR = 2**40  # a deadline that no test reaches

Leaf = tuple[str, bytes, int]


@dataclass
class Contracts:
    """IFM and a Settlement of one test; ``operator`` holds the IFM and every role."""

    chain: DevChain
    ifm_address: str
    address: str

    @classmethod
    def fresh(cls, chain: DevChain, *, challenge: int = 0, cap: int = DAILY_CAP) -> Contracts:
        deployed = deploy(
            chain.rpc_url,
            chain.key,
            challenge_seconds=challenge,
            admin_delay_seconds=0,
            daily_cap=cap,
            supply=SUPPLY,
        )
        return cls(chain, deployed.ifm, deployed.settlement)

    @cached_property
    def web3(self) -> Web3:
        web3 = Web3(HTTPProvider(self.chain.rpc_url))
        # The node signs for whoever it is told to be.
        self.chain.rpc("anvil_impersonateAccount", self.operator)
        return web3

    @cached_property
    def ifm(self) -> Any:
        return self.web3.eth.contract(address=self.ifm_address, abi=abi("IFM"))  # type: ignore[call-overload]

    @cached_property
    def settlement(self) -> Any:
        return self.web3.eth.contract(address=self.address, abi=abi("Settlement"))  # type: ignore[call-overload]

    @property
    def operator(self) -> str:
        return str(self.chain.operator.address)

    @property
    def now(self) -> int:
        """The time of the last block, in unix seconds."""
        return int(self.web3.eth.get_block("latest")["timestamp"])

    def read(self, name: str, *arguments: Any) -> Any:
        """What a view of the settlement says."""
        return self.settlement.functions[name](*arguments).call({"gas": GAS})

    def send(self, name: str, *arguments: Any, sender: str | None = None) -> list[dict[str, Any]]:
        """Call the settlement; returns its events as ``{"event": …, **arguments}``."""
        return self.sent(self.settlement.functions[name](*arguments), sender or self.operator)

    def sent(self, call: BaseContractFunction, sender: str) -> list[dict[str, Any]]:
        receipt = self.mined(call, sender)
        assert receipt["status"] == 1, refusal(call, sender)
        named = {
            "0x" + keccak(text=signature(each)).hex(): each["name"]
            for each in abi("Settlement")
            if each["type"] == "event"
        }
        return [
            {
                "event": named[log["topics"][0].to_0x_hex()],
                **self.settlement.events[named[log["topics"][0].to_0x_hex()]]().process_log(log)[
                    "args"
                ],
            }
            for log in receipt["logs"]
            if log["address"] == self.address
        ]

    def mined(self, call: BaseContractFunction, sender: str) -> TxReceipt:
        """The receipt, whether it succeeded or not: the gas is not asked for first."""
        sent = self.chain.rpc(
            "eth_sendTransaction",
            {
                "from": sender,
                "to": call.address,
                "data": call._encode_transaction_data(),
                "gas": hex(GAS),
            },
        )
        return self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.005)

    def refuses(self, name: str, *arguments: Any, sender: str | None = None) -> tuple[Any, ...]:
        """The error of a call to the settlement, as (name, *arguments); nothing has changed."""
        return self.refused(self.settlement.functions[name](*arguments), sender or self.operator)

    def refused(self, call: BaseContractFunction, sender: str) -> tuple[Any, ...]:
        before = self.state()
        error = refusal(call, sender)
        assert self.mined(call, sender)["status"] == 0
        assert self.state() == before
        return error

    def state(self) -> dict[str, Any]:
        """Every number that a payment changes."""
        counters = ("totalDeposited", "totalClaimed", "totalWithdrawn", "held", "rootEpoch")
        return {
            "tokens": self.balance(self.address),
            **{each: self._number(self.address, f"{each}()") for each in counters},
        }

    def balance(self, account: str) -> int:
        return self._number(self.ifm_address, "balanceOf(address)", bytes.fromhex(account[2:]))

    def _number(self, contract: str, function: str, argument: bytes | None = None) -> int:
        # Asked for after every step; the library would ask a few questions more each time.
        word = b"" if argument is None else argument.rjust(32, b"\0")
        data = "0x" + (keccak(text=function)[:4] + word).hex()
        return int(self.chain.rpc("eth_call", {"to": contract, "data": data}, "latest"), 16)

    def at(self, timestamp: int) -> None:
        """Let the next block, an empty one, have this time, and the clock go on from there."""
        self.chain.rpc("evm_setNextBlockTimestamp", timestamp)
        self.chain.rpc("evm_mine")

    def fund(self, amount: int, account: str | None = None) -> None:
        """Deposit so many of the operator's tokens."""
        self.sent(self.ifm.functions.approve(self.address, amount), self.operator)
        self.send("deposit", account or self.operator, amount)

    def voucher(
        self,
        account: str,
        cumulative: int,
        *,
        deadline: int = FAR,
        key: str | None = None,
        **domain: Any,
    ) -> bytes:
        """A signed withdrawal; ``domain`` overrides the fields of the EIP-712 domain."""
        signed = Account.sign_typed_data(
            key or self.chain.key,
            {
                "name": "InfraMind Settlement",
                "version": "1",
                "chainId": 31_337,
                "verifyingContract": self.address,
                **domain,
            },
            {
                "Withdrawal": [
                    {"name": "account", "type": "address"},
                    {"name": "cumulative", "type": "uint256"},
                    {"name": "deadline", "type": "uint256"},
                ]
            },
            {"account": account, "cumulative": cumulative, "deadline": deadline},
        )
        return bytes(signed.signature)

    def permit(
        self, owner: LocalAccount, amount: int, *, deadline: int = FAR
    ) -> tuple[int, int, bytes, bytes]:
        """The owner's approval for the settlement, as (deadline, v, r, s)."""
        signed = owner.sign_typed_data(
            {
                "name": "InfraMind",
                "version": "1",
                "chainId": 31_337,
                "verifyingContract": self.ifm_address,
            },
            {
                "Permit": [
                    {"name": "owner", "type": "address"},
                    {"name": "spender", "type": "address"},
                    {"name": "value", "type": "uint256"},
                    {"name": "nonce", "type": "uint256"},
                    {"name": "deadline", "type": "uint256"},
                ]
            },
            {
                "owner": owner.address,
                "spender": self.address,
                "value": amount,
                "nonce": self.ifm.functions.nonces(owner.address).call(),
                "deadline": deadline,
            },
        )
        return deadline, signed.v, signed.r.to_bytes(32), signed.s.to_bytes(32)


class Tree:
    """OpenZeppelin's standard tree, written once more from its description."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        hashed = sorted(leaf_hash(*each) for each in leaves)
        self.nodes = [b""] * (len(leaves) - 1) + hashed[::-1]
        for index in range(len(leaves) - 2, -1, -1):
            self.nodes[index] = inner_hash(self.nodes[2 * index + 1], self.nodes[2 * index + 2])
        self.total = sum(amount for _, _, amount in leaves)

    @property
    def root(self) -> bytes:
        return self.nodes[0]

    def proof(self, leaf: Leaf) -> list[bytes]:
        return self.proof_of(self.nodes.index(leaf_hash(*leaf)))

    def proof_of(self, index: int) -> list[bytes]:
        path = []
        while index > 0:
            path.append(self.nodes[index + 1 if index % 2 else index - 1])
            index = (index - 1) // 2
        return path


def leaf_hash(account: str, stream: bytes, cumulative: int) -> bytes:
    return keccak(keccak(encode(["address", "bytes32", "uint256"], [account, stream, cumulative])))


def inner_hash(one: bytes, other: bytes) -> bytes:
    return keccak(b"".join(sorted((one, other))))


def stream(name: str) -> bytes:
    return keccak(text=name)


def signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(each['type'] for each in entry['inputs'])})"


class Asked(Protocol):
    """A call that can be tried without sending it."""

    def call(self, transaction: Any, block_identifier: Any, /) -> Any: ...


def refusal(call: Asked, sender: str) -> tuple[Any, ...]:
    """The custom error of a call, as (name, *arguments)."""
    try:
        answer = call.call({"from": sender}, "pending")
    except ContractCustomError as error:
        data = bytes.fromhex(str(error.data)[2:])
    else:
        raise AssertionError(f"not refused, but answered {answer!r}")
    for entry in (*abi("Settlement"), *abi("IFM")):
        if entry["type"] == "error" and keccak(text=signature(entry))[:4] == data[:4]:
            types = [each["type"] for each in entry["inputs"]]
            values = decode(types, data[4:])
            return (
                entry["name"],
                *(
                    Web3.to_checksum_address(value) if kind == "address" else value
                    for kind, value in zip(types, values, strict=True)
                ),
            )
    raise AssertionError(f"an unknown error: 0x{data.hex()}")
