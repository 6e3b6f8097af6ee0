"""A marketplace of one test alone, every part of which may be killed at any moment."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
import redis
from psycopg import sql

from inframind.devstack.chain import Anvil, Contracts, ensure_contracts, start_anvil
from inframind.devstack.chaintools import ChainTools, ensure_chain_tools
from inframind.devstack.nodevenv import ensure_node_venv
from inframind.devstack.ports import LOOPBACK, answers_ok, free_ports
from inframind.devstack.postgres import Postgres, start_postgres
from inframind.devstack.processes import Child, Children
from inframind.devstack.redis import Redis, start_redis
from inframind.devstack.secrets import Secrets, fresh_secrets
from inframind.devstack.stack import TRUSTED_NODES
from inframind.devstack.triton import Node, make_node
from inframind.devstack.web import Application
from tests.journeys.bank import Bank
from tests.journeys.market import ROOT, Ran, run_command


@dataclass(slots=True, repr=False)
class Crashing:
    """Durable servers, two nodes, some web processes, a worker and a clock: ``start``, ``close``.

    The first web process serves pages and calls, the others calls alone. Whatever is killed is
    started again by the same call, without waiting until it answers, except for PostgreSQL, Redis
    and the chain, which are awaited. One thread at a time may call its methods.
    """

    folder: Path
    children: Children
    secrets: Secrets
    tools: ChainTools
    web_ports: list[int]
    postgres: Postgres
    redis: Redis
    nodes: list[Node]
    anvil: Anvil
    contracts: Contracts
    bank: Bank
    env: dict[str, str] = field(default_factory=dict)
    webs: list[Child] = field(default_factory=list)
    worker: Child | None = None
    beat: Child | None = None
    commands: list[Child] = field(default_factory=list)

    @classmethod
    def start(cls, folder: Path, *, web_processes: int, **settings: str) -> Self:
        """Everything up, migrated and empty; ``settings`` are added to the environment."""
        folder.chmod(0o711)
        children = Children(folder / "log")
        try:
            secrets = fresh_secrets()
            tools = ensure_chain_tools(children, say=print)
            postgres = start_postgres(
                children, folder=folder / "postgres", password=secrets.postgres
            )
            server = start_redis(children, folder=folder / "redis", password=secrets.redis)
            nodes = _started_nodes(children, folder, secrets.triton)
            [port] = free_ports(1)
            anvil = start_anvil(children, tools, state=folder / "chain" / "state.json", port=port)
            contracts = ensure_contracts(
                anvil, kept=folder / "chain" / "contracts.json", key=secrets.chain
            )
            bank = Bank.founded(anvil, contracts, secrets.chain)
            ports = free_ports(web_processes)
            crashing = cls(
                folder, children, secrets, tools, ports, postgres, server, nodes, anvil, contracts,
                bank,
            )  # fmt: skip
            (folder / "static").mkdir()
            crashing.env = {**os.environ, **crashing._environment(), **settings}
            crashing._application.manage("migrate", "--no-input", "--verbosity=0")
            crashing._start_application()
        except BaseException:
            children.close()
            raise
        return crashing

    def close(self) -> None:
        """Ends everything."""
        self.children.close()

    @property
    def urls(self) -> list[str]:
        """The web processes' addresses, whether they answer now or not."""
        return [f"http://{LOOPBACK}:{port}" for port in self.web_ports]

    def manage(self, *arguments: str) -> Ran:
        """A management command, to its end."""
        return run_command([sys.executable, "manage.py", *arguments], env=self.env)

    def domain(self, code: str) -> str:
        """Python run inside the application; its output."""
        ran = self.manage("shell", "--no-imports", "--command", code)
        assert ran.status == 0, ran.stderr
        return ran.stdout

    def rows(self, query: sql.SQL, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database holds, read beside the application."""
        with psycopg.connect(self.postgres.url) as connection:
            return connection.execute(query, parameters).fetchall()

    def begin(self, *arguments: str) -> Child:
        """A management command that goes on beside us."""
        child = self.children.start(
            "command", [sys.executable, "manage.py", *arguments], env=self.env, cwd=ROOT
        )
        child.is_dismissed = True
        self.commands = [*(each for each in self.commands if each.alive), child]
        return child

    def kill_web(self, index: int) -> None:
        self.webs[index].kill()
        self.webs[index] = self._web(index)

    def kill_worker(self) -> None:
        assert self.worker is not None
        self.worker.kill()
        self.worker = self._application.worker()

    def kill_beat(self) -> None:
        assert self.beat is not None
        self.beat.kill()
        self.beat = self._application.beat(self.folder / "beat-schedule")

    def kill_postgres(self) -> None:
        """The server and all its sessions at once, as a power cut would; then it recovers."""
        self.postgres.child.kill()
        self.postgres = start_postgres(
            self.children, folder=self.folder / "postgres", password=self.secrets.postgres
        )

    def kill_redis(self) -> None:
        """The server at once; what it had appended to disk is there again."""
        self.redis.child.kill()
        self.redis = start_redis(
            self.children,
            folder=self.folder / "redis",
            password=self.secrets.redis,
            port=self.redis.port,
        )

    def kill_node(self, index: int) -> None:
        """The node's server at once; it comes back empty."""
        self.nodes[index].kill()
        self.nodes[index].begin()

    @contextmanager
    def node_paused(self, index: int) -> Iterator[None]:
        """It takes connections and answers nobody."""
        child = self.nodes[index].child
        assert child is not None
        with _paused(child):
            yield

    def flush_redis(self) -> None:
        """Sessions, counters, queued tasks: all gone."""
        with redis.Redis.from_url(self.redis.url) as connection:
            connection.flushall()

    def restart_chain(self) -> None:
        """Stopped as asked, so that it writes what it knows, and started on the same port."""
        self.anvil.child.stop()
        self.anvil = start_anvil(
            self.children,
            self.tools,
            state=self.folder / "chain" / "state.json",
            port=self.anvil.port,
        )

    @contextmanager
    def chain_paused(self) -> Iterator[None]:
        """It takes connections and answers nobody."""
        with _paused(self.anvil.child):
            yield

    def await_some(self, *, timeout_seconds: float = 120) -> None:
        """Returns when all web processes but one answer, so that callers have somebody to call."""
        deadline = time.monotonic() + timeout_seconds
        while sum(answers_ok(port, "/livez") for port in self.web_ports) < len(self.webs) - 1:
            assert time.monotonic() < deadline, "the web processes did not come back"
            time.sleep(0.1)

    def await_all(self) -> None:
        """Returns when every web process answers; what has ended is started again."""
        for index, port in enumerate(self.web_ports):
            if not self.webs[index].alive:
                self.webs[index] = self._web(index)
            self._application.await_web(self.webs[index], port)

    @property
    def _application(self) -> Application:
        return Application(self.children, ROOT, self.env)

    def _web(self, index: int) -> Child:
        role = "gateway" if index else "all"
        env = {**self.env, "INFRAMIND_ROLE": role}
        return Application(self.children, ROOT, env).web(self.web_ports[index])

    def _start_application(self) -> None:
        self.webs = [self._web(index) for index in range(len(self.web_ports))]
        self.worker = self._application.worker()
        self.beat = self._application.beat(self.folder / "beat-schedule")
        self.await_all()

    def _environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "SECRET_KEY": self.secrets.django,
            "TRITON_NODES": json.dumps([node.document() for node in self.nodes]),
            "STORE_DIR": str(self.folder / "store"),
            "STATIC_ROOT": str(self.folder / "static"),
            "SITE_URL": self.urls[0],
            "ETH_RPC_URL": self.anvil.url,
            "IFM_ADDRESS": self.contracts.ifm,
            "SETTLEMENT_ADDRESS": self.contracts.settlement,
            "SETTLEMENT_BLOCK": str(self.contracts.block),
            "CHAIN_CONFIRMATIONS": "1",
            "CHAIN_KEY": self.secrets.chain,
            "WALLET_CALLS_PER_MINUTE": "1000000",
            "PYTHONWARNINGS": "",
        }


def _started_nodes(children: Children, folder: Path, secret: str) -> list[Node]:
    venv = ensure_node_venv(children, say=print)
    nodes = [
        make_node(
            name=name,
            is_sandbox=False,
            secret=secret,
            folder=folder / "triton" / name,
            venv=venv,
            children=children,
        )
        for name in TRUSTED_NODES
    ]
    for node in nodes:
        node.begin()
    for node in nodes:
        node.await_ready()
    return nodes


@contextmanager
def _paused(child: Child) -> Iterator[None]:
    pid = _program_of(child)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        # It can have been killed meanwhile, by whoever paused it or by its own guard.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _program_of(child: Child, *, timeout_seconds: float = 5) -> int:
    """The process id of the program itself, below its guard."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        [*found] = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        if len(found) == 1:
            return int(found[0])
        assert time.monotonic() < deadline, f"{child.name} has no program"
        time.sleep(0.05)
