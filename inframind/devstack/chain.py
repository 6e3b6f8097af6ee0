"""The embedded chain: anvil, whose state outlives it, with our contracts on it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from inframind.devstack.chaintools import ChainTools
from inframind.devstack.ports import LOOPBACK
from inframind.devstack.processes import Child, Children, StackProblem
from inframind.devstack.secrets import write_private

CHAIN_ID = 31_337
# Known to everybody, so the accounts are good for a development chain and for nothing else.
MNEMONIC = "test test test test test test test test test test test junk"
ACCOUNTS = 10
ONE_IFM = 10**18
SUPPLY = 1_000_000_000 * ONE_IFM
# Never in the way of somebody who tries things out.
DAILY_CAP = 100_000_000 * ONE_IFM
GAS_MONEY = 10_000 * 10**18
_LISTENING = re.compile(rf"Listening on {re.escape(LOOPBACK)}:(\d+)")


@dataclass(frozen=True, slots=True)
class Anvil:
    """A running chain."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC call. Raises StackProblem with the node's words."""
        document = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        connection = HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/", json.dumps(document), headers)
            answer = json.load(connection.getresponse())
        except (HTTPException, OSError, ValueError) as error:
            raise StackProblem(f"The chain does not answer {method}: {error}") from None
        finally:
            connection.close()
        if "error" in answer:
            raise StackProblem(f"The chain refuses {method}: {answer['error'].get('message')}")
        return answer["result"]


@dataclass(frozen=True, slots=True)
class Contracts:
    """Where our contracts are: checksummed addresses, and the block since which they are there."""

    ifm: str
    settlement: str
    block: int


def start_anvil(
    children: Children,
    tools: ChainTools,
    *,
    state: Path | None = None,
    name: str = "chain",
    port: int = 0,
) -> Anvil:
    """Start anvil, on a free port where none is given; with ``state`` it goes on from that file and
    writes it every second and at its end, without it everything is in memory.

    ``name`` names its log, which nobody else may write. Raises StackProblem when it does not come
    up.
    """
    command = [str(tools.anvil), "--host", LOOPBACK, "--port", str(port)]
    command += ["--chain-id", str(CHAIN_ID), "--mnemonic", MNEMONIC]
    command += ["--accounts", str(ACCOUNTS), "--no-cors"]
    if state is not None:
        state.parent.mkdir(parents=True, exist_ok=True)
        command += ["--state", str(state), "--state-interval", "1"]
    cwd = children.log_dir if state is None else state.parent
    # It keeps a cache in its home, which has to be a folder that it may write to.
    child = children.start(
        name, command, env={"PATH": os.defpath, "HOME": str(cwd)}, cwd=cwd, grace_seconds=20
    )
    child.wait_until_ready(
        lambda: _port(child) is not None, timeout_seconds=60, goes_on=children.goes_on
    )
    bound = _port(child)
    assert bound is not None
    anvil = Anvil(child, bound)
    # It would log every question that it is asked.
    anvil.ask("anvil_setLoggingEnabled", False)
    return anvil


def ensure_contracts(anvil: Anvil, *, kept: Path, key: str) -> Contracts:
    """The contracts of this chain: deployed by the account of ``key`` at first, found in the file
    ``kept`` later.

    Raises StackProblem where the file names contracts that the chain does not have, or where
    they cannot be deployed.
    """
    if kept.exists():
        contracts = Contracts(**json.loads(kept.read_text()))
        for each in (contracts.ifm, contracts.settlement):
            if anvil.ask("eth_getCode", each, "latest") == "0x":
                raise StackProblem(
                    f"{kept} says that a contract is at {each}, but the chain has none there: "
                    f"its state ({kept.parent / 'state.json'}) was lost, while the database "
                    "still counts what was paid on it. Put the state back, or start over with "
                    f"both: stop the stack, remove {kept.parent} and "
                    f"{kept.parent.parent / 'postgres'}, and start it again."
                )
        return contracts
    # It takes seconds to import what the first start needs alone.
    from inframind.chain.deploy import DeploymentFailed, deploy
    from inframind.chain.errors import ChainUnavailable
    from inframind.lib.secp256k1 import address_of_key

    account = address_of_key(bytes.fromhex(key.removeprefix("0x")))
    anvil.ask("anvil_setBalance", account, hex(GAS_MONEY))
    try:
        deployed = deploy(
            anvil.url,
            key,
            challenge_seconds=0,
            admin_delay_seconds=0,
            daily_cap=DAILY_CAP,
            supply=SUPPLY,
        )
    except (ChainUnavailable, DeploymentFailed) as error:
        raise StackProblem(f"The contracts could not be deployed: {error}") from None
    write_private(kept, deployed.document())
    return Contracts(deployed.ifm, deployed.settlement, deployed.block)


def _port(child: Child) -> int | None:
    """The port that anvil has bound and says in this run's log; None before it does."""
    assert child.log is not None
    with child.log.open("rb") as stream:
        stream.seek(child.log_start_bytes)
        found = _LISTENING.search(stream.read().decode(errors="replace"))
    return None if found is None else int(found[1])
