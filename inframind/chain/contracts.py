"""The views of our two contracts, as of now or as of a block."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from inframind.chain.answers import Block
from inframind.chain.artefacts import Contract, abi
from inframind.chain.client import Chain
from inframind.chain.errors import ChainLies
from inframind.lib.addresses import checksum_address


@dataclass(frozen=True, slots=True)
class Totals:
    """All that was ever deposited, claimed and withdrawn, in base units."""

    deposited: int
    claimed: int
    withdrawn: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """A root that is on the chain; ``claimable_at`` in unix seconds."""

    root: bytes
    total: int
    claimable_at: int


@dataclass(frozen=True, slots=True)
class Contracts:
    """IFM and Settlement on one chain. Methods raise ``ChainUnavailable``."""

    chain: Chain
    ifm: str
    settlement: str

    def token(self) -> str:
        """The token that the settlement works with."""
        return checksum_address(self._view("Settlement", "ifm"))

    def totals(self, block: Block | None = None) -> Totals:
        names = ("totalDeposited", "totalClaimed", "totalWithdrawn")
        return Totals(*(int(self._view("Settlement", name, block=block)) for name in names))

    def challenge_seconds(self) -> int:
        return int(self._view("Settlement", "challengeSeconds"))

    def root_epoch(self, block: Block | None = None) -> int:
        """The epoch of the claimable root; 0 before the first one."""
        return int(self._view("Settlement", "rootEpoch", block=block))

    def pending_epoch(self, block: Block | None = None) -> int:
        """The epoch whose root is within its challenge time; 0 where none is."""
        return int(self._view("Settlement", "pendingEpoch", block=block))

    def root_of(self, epoch: int, block: Block | None = None) -> Proposed:
        """What was proposed for an epoch; zeros where nothing was, or it was revoked."""
        root, total, claimable_at = self._view("Settlement", "rootOf", epoch, block=block)
        return Proposed(bytes(root), int(total), int(claimable_at))

    def claimed(self, account: str, stream: bytes, block: Block | None = None) -> int:
        """What was ever paid for the earnings of an account from a stream."""
        return int(self._view("Settlement", "claimed", account, stream, block=block))

    def withdrawn(self, account: str, block: Block | None = None) -> int:
        """What was ever withdrawn by vouchers of an account."""
        return int(self._view("Settlement", "withdrawn", account, block=block))

    def withdrawable_today(self) -> int:
        """What is left of the cap on all withdrawals of this UTC day."""
        cap = int(self._view("Settlement", "dailyWithdrawalCap"))
        return max(0, cap - int(self._view("Settlement", "withdrawnToday")))

    def ifm_of(self, account: str) -> int:
        return int(self._view("IFM", "balanceOf", account))

    def allowance_of(self, account: str) -> int:
        """How much of an account's IFM the settlement may take."""
        return int(self._view("IFM", "allowance", account, self.settlement))

    def permit_nonce_of(self, account: str) -> int:
        return int(self._view("IFM", "nonces", account))

    def _view(
        self, contract: Contract, name: str, *arguments: Any, block: Block | None = None
    ) -> Any:
        from eth_abi.abi import decode, encode
        from eth_abi.exceptions import DecodingError

        selector, inputs, outputs = _function(contract, name)
        to = self.ifm if contract == "IFM" else self.settlement
        answer = self.chain.call(to, selector + encode(inputs, arguments), block=block)
        try:
            [value] = decode(outputs, answer)
        except DecodingError:
            raise ChainLies(
                f"{to} does not answer {name}: it is no {contract} contract, or the node's answer "
                "is malformed"
            ) from None
        return value


@lru_cache
def _function(contract: Contract, name: str) -> tuple[bytes, list[str], list[str]]:
    """A function's selector, the types of its arguments and of its answer."""
    from eth_utils.crypto import keccak

    [entry] = [e for e in abi(contract) if e["type"] == "function" and e["name"] == name]
    inputs = [each["type"] for each in entry["inputs"]]
    outputs = [_type_of(each) for each in entry["outputs"]]
    return bytes(keccak(text=f"{name}({','.join(inputs)})"))[:4], inputs, outputs


def _type_of(parameter: dict[str, Any]) -> str:
    if parameter["type"] != "tuple":
        return str(parameter["type"])
    return f"({','.join(_type_of(each) for each in parameter['components'])})"
