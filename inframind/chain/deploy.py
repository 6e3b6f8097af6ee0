"""Bringing the contracts onto a chain: once for a development chain, once ever for a real one."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from inframind.chain.artefacts import Contract, abi, bytecode
from inframind.chain.errors import ChainUnavailable

if TYPE_CHECKING:
    from web3 import Web3

TIMEOUT_SECONDS: Final = 10
# A public chain mines a block in seconds; one that is this slow wants a look by a person.
MINED_WITHIN_SECONDS: Final = 300
ROLES: Final = ("PROPOSER_ROLE", "VOUCHER_ROLE")
GUARDIAN_ROLES: Final = ("GUARDIAN_ROLE", "PAUSER_ROLE")


class DeploymentFailed(Exception):
    """A transaction was mined and failed, or never was. Says which one."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """Two checksummed addresses, and the block of the older one: no event is older."""

    ifm: str
    settlement: str
    block: int

    def document(self) -> dict[str, Any]:
        """As JSON: ``{"ifm", "settlement", "block"}``."""
        return asdict(self)


def deploy(
    rpc_url: str,
    key: str,
    *,
    challenge_seconds: int,
    admin_delay_seconds: int,
    daily_cap: int,
    supply: int,
    guardian: str | None = None,
) -> Deployed:
    """Deploy IFM and Settlement from the account of ``key`` (hexadecimal), which pays the gas.

    That account receives the whole ``supply``, becomes the admin, and may propose roots and sign
    vouchers. ``guardian`` (its address, or the same account) may revoke roots and pause. Amounts
    are base units. Raises ``ChainUnavailable`` and ``DeploymentFailed``; what was mined before
    that stays on the chain, unused.
    """
    deployer = _Deployer(rpc_url, key)
    from requests.exceptions import RequestException
    from web3.exceptions import TimeExhausted, Web3Exception

    try:
        return deployer.deploy(
            challenge_seconds=challenge_seconds,
            admin_delay_seconds=admin_delay_seconds,
            daily_cap=daily_cap,
            supply=supply,
            guardian=guardian,
        )
    except TimeExhausted as error:
        raise DeploymentFailed(f"not mined in time: {error}") from None
    except (Web3Exception, RequestException) as error:
        raise ChainUnavailable(f"{type(error).__name__}: {error}") from None


class _Deployer:
    def __init__(self, rpc_url: str, key: str) -> None:
        self._web3 = _connect(rpc_url)
        self._account = self._web3.eth.account.from_key(key)

    def deploy(
        self,
        *,
        challenge_seconds: int,
        admin_delay_seconds: int,
        daily_cap: int,
        supply: int,
        guardian: str | None,
    ) -> Deployed:
        admin = self._account.address
        ifm, block = self._create("IFM", admin, supply)
        settlement, _ = self._create(
            "Settlement", ifm, admin, admin_delay_seconds, challenge_seconds, daily_cap
        )
        contract = self._web3.eth.contract(
            address=self._web3.to_checksum_address(settlement), abi=abi("Settlement")
        )
        granted = [(role, admin) for role in ROLES]
        granted += [(role, guardian or admin) for role in GUARDIAN_ROLES]
        for role, holder in granted:
            identifier = self._web3.keccak(text=role)
            self._send(role, contract.functions.grantRole(identifier, holder))
        return Deployed(ifm, settlement, block)

    def _create(self, name: Contract, *arguments: Any) -> tuple[str, int]:
        """The address of the new contract, and its block."""
        contract = self._web3.eth.contract(abi=abi(name), bytecode=bytecode(name))
        receipt = self._send(name, contract.constructor(*arguments))
        return str(receipt["contractAddress"]), int(receipt["blockNumber"])

    def _send(self, what: str, call: Any) -> Any:
        """The receipt of a transaction that succeeded."""
        eth = self._web3.eth
        address = self._account.address
        transaction = call.build_transaction(
            # Pending, since the one before may be mined where another node does not see it yet.
            {"from": address, "nonce": eth.get_transaction_count(address, "pending")}
        )
        signed = self._account.sign_transaction(transaction)
        sent = eth.send_raw_transaction(signed.raw_transaction)
        receipt = eth.wait_for_transaction_receipt(
            sent, timeout=MINED_WITHIN_SECONDS, poll_latency=0.02
        )
        if receipt["status"] != 1:
            raise DeploymentFailed(f"{what}: transaction 0x{sent.hex()} failed")
        return receipt


def _connect(rpc_url: str) -> Web3:
    # Imported on first use: it takes seconds, and a library below it lifts Python's recursion limit
    # for the whole process, which is put back here.
    limit = sys.getrecursionlimit()
    from web3 import HTTPProvider, Web3

    sys.setrecursionlimit(limit)
    return Web3(HTTPProvider(rpc_url, request_kwargs={"timeout": TIMEOUT_SECONDS}))
