"""The stack of one clone: started together, stopped together, found through var/stack.json."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from inframind.devstack.chain import CHAIN_ID, ensure_contracts, start_anvil
from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.nodevenv import ROOT, ensure_node_venv
from inframind.devstack.ports import LOOPBACK
from inframind.devstack.postgres import start_postgres
from inframind.devstack.processes import Children, StackProblem
from inframind.devstack.redis import start_redis
from inframind.devstack.secrets import kept_secrets, write_private
from inframind.devstack.triton import Node, make_node
from inframind.devstack.web import Application

TRUSTED_NODES = ("node-a", "node-b")
SANDBOX_NODE = "sandbox"
# Part by part: what is set in the environment is used as given and not embedded.
GIVEN = ("DATABASE_URL", "REDIS_URL", "TRITON_NODES", "ETH_RPC_URL")

Say = Callable[[str], None]


@dataclass(slots=True)
class Stack:
    """Servers first (``start_servers``), then our own processes (``start_application``).

    Leaving the ``with`` block stops everything, also what was only half started.
    """

    var: Path = ROOT / "var"
    port: int = 8000
    is_debug: bool = False
    say: Say = print
    root: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    _children: Children | None = None
    _lock: IO[str] | None = None

    @property
    def children(self) -> Children:
        if self._children is None:
            raise StackProblem("The stack is not started.")
        return self._children

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def application(self) -> Application:
        return Application(self.children, self.root, {**os.environ, **self.env})

    def __enter__(self) -> Self:
        self.var.mkdir(parents=True, exist_ok=True)
        self._lock = self._only_one()
        self._children = Children(self.var / "log")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.children.close()
        finally:
            (self.var / "stack.json").unlink(missing_ok=True)
            if self._lock is not None:
                self._lock.close()

    def start_servers(self, environment: Mapping[str, str] = os.environ) -> None:
        """Start PostgreSQL, Redis, the nodes and the chain side by side; those that are given are
        left out.

        Raises StackProblem in words for the terminal where one does not come up.
        """
        given = {name: environment[name] for name in GIVEN if environment.get(name)}
        secrets = kept_secrets(self.var / "secrets.json")
        found: dict[str, Future[str]] = {}
        chain: Future[dict[str, str]] | None = None
        pool = ThreadPoolExecutor(max_workers=4)
        try:
            if "DATABASE_URL" not in given:
                found["DATABASE_URL"] = pool.submit(
                    lambda: (
                        start_postgres(
                            self.children, folder=self.var / "postgres", password=secrets.postgres
                        ).url
                    )
                )
            if "REDIS_URL" not in given:
                found["REDIS_URL"] = pool.submit(
                    lambda: (
                        start_redis(
                            self.children, folder=self.var / "redis", password=secrets.redis
                        ).url
                    )
                )
            if "TRITON_NODES" not in given:
                found["TRITON_NODES"] = pool.submit(self._start_nodes, secrets.triton)
            if "ETH_RPC_URL" not in given:
                chain = pool.submit(self._start_chain, secrets.chain)
            urls = {name: future.result() for name, future in found.items()}
            on_chain = {} if chain is None else chain.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        for name in given:
            self.say(f"{name} is set: using that one, not an embedded one.")
        static = self.var / "static"
        static.mkdir(exist_ok=True)  # WhiteNoise warns where it is missing
        self.env = {
            "SECRET_KEY": environment.get("SECRET_KEY") or secrets.django,
            "DEVSTACK": "1",
            "ALLOW_LOOPBACK_NODES": "1",
            "SITE_URL": self.url,
            "STORE_DIR": str(self.var / "store"),
            # Files as they are: hashing and compressing all of them costs half a minute a start.
            "STATIC_MANIFEST": "0",
            "STATIC_ROOT": str(static),
            **({"DEBUG": "1"} if self.is_debug else {}),
            **given,
            **urls,
            **on_chain,
        }
        self._write_state()

    def start_application(self, *, reload: bool = False) -> None:
        """Start web, worker and beat; returns when the web server answers."""
        application = self.application
        web = application.web(self.port, reload=reload)
        application.worker()
        application.beat(self.var / "beat-schedule")
        application.await_web(web, self.port)
        self._write_state()

    def watch(self) -> None:
        """Raises StackProblem with log lines when a part has ended by itself."""
        for child in self.children.started:
            child.require_alive()

    def _start_nodes(self, secret: str) -> str:
        venv = ensure_node_venv(self.children, say=self.say)
        self.nodes = [
            make_node(
                name=name,
                is_sandbox=name == SANDBOX_NODE,
                secret=secret,
                folder=self.var / "triton" / name,
                venv=venv,
                children=self.children,
            )
            for name in (*TRUSTED_NODES, SANDBOX_NODE)
        ]
        for node in self.nodes:
            node.begin()
        for node in self.nodes:
            node.await_ready()
        return json.dumps([node.document() for node in self.nodes])

    def _start_chain(self, key: str) -> dict[str, str]:
        """The environment of an application that uses the embedded chain."""
        folder = self.var / "chain"
        tools = ensure_chain_tools(self.children, say=self.say)
        anvil = start_anvil(self.children, tools, state=folder / "state.json")
        contracts = ensure_contracts(anvil, kept=folder / "contracts.json", key=key)
        return {
            "ETH_RPC_URL": anvil.url,
            "CHAIN_ID": str(CHAIN_ID),
            "IFM_ADDRESS": contracts.ifm,
            "SETTLEMENT_ADDRESS": contracts.settlement,
            "SETTLEMENT_BLOCK": str(contracts.block),
            "CHAIN_KEY": key,
            # Its blocks are final: nobody else makes any.
            "CHAIN_CONFIRMATIONS": "1",
            "FAUCET": "1",
        }

    def _write_state(self) -> None:
        pids = {child.name: child.pid for child in self.children.running}
        document: dict[str, Any] = {"env": self.env, "pids": {"stack": os.getpid(), **pids}}
        write_private(self.var / "stack.json", document)

    def _only_one(self) -> IO[str]:
        """Hold the clone's lock for as long as we live, whichever way we end."""
        lock = (self.var / "stack.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise StackProblem(
                f"A stack of this clone already runs (process {holder}). "
                f"Stop it with Ctrl-C where it runs, or with: kill {holder}"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        return lock
