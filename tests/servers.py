"""The servers of one test run: started by the controller, shared by its workers, ended with it.

A FIFO that only the controller holds open is the life line of every server, whoever started it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from inframind.devstack.chain import Anvil, start_anvil
from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.nodevenv import ensure_node_venv
from inframind.devstack.postgres import start_postgres
from inframind.devstack.processes import Children
from inframind.devstack.redis import start_redis
from inframind.devstack.secrets import fresh_secrets
from inframind.devstack.stack import SANDBOX_NODE, TRUSTED_NODES
from inframind.devstack.triton import Node, make_node

FOLDER_VARIABLE = "INFRAMIND_TEST_FOLDER"
END_SECONDS = 30

# What this process started for a whole run: a collected Popen would warn that its child still runs.
_kept: list[Children] = []


@dataclass(slots=True)
class Controller:
    """Owns the folder, the life line and the servers that every run needs."""

    folder: Path
    lifeline: int
    children: Children

    @classmethod
    def start(cls) -> Self:
        """Start PostgreSQL and Redis and set the environment for this process and its workers."""
        folder = Path(tempfile.mkdtemp(prefix="inframind-tests-"))
        # The servers' other users have to pass through it.
        folder.chmod(0o711)
        (folder / "pids").mkdir()
        os.mkfifo(folder / "lifeline", 0o600)
        reading = os.open(folder / "lifeline", os.O_RDONLY | os.O_NONBLOCK)
        lifeline = os.open(folder / "lifeline", os.O_WRONLY)
        os.close(reading)
        children = _children(folder)
        controller = cls(folder, lifeline, children)
        try:
            secrets = fresh_secrets()
            postgres = start_postgres(
                children, folder=folder / "postgres", password=secrets.postgres, durable=False
            )
            redis = start_redis(
                children, folder=folder / "redis", password=secrets.redis, durable=False
            )
        except BaseException:
            controller.stop()
            raise
        os.environ.update(
            {
                FOLDER_VARIABLE: str(folder),
                "DATABASE_URL": postgres.url,
                "REDIS_URL": redis.url_of(0),
                "SECRET_KEY": secrets.django,
                "TRITON_NODES": "[]",
                "ALLOW_LOOPBACK_NODES": "1",
                "DEVSTACK": "1",
                "STATIC_MANIFEST": "0",
            }
        )
        set_worker_environment("gw0")
        return controller

    def stop(self) -> None:
        """End every server of the run, also those that workers started, and wait for that."""
        for each in (self.children, *_kept):
            each.close()
        os.close(self.lifeline)
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline and any(
            Path(f"/proc/{each.name}").exists() for each in (self.folder / "pids").iterdir()
        ):
            time.sleep(0.05)
        shutil.rmtree(self.folder, ignore_errors=True)


def set_worker_environment(worker: str) -> None:
    """Give a worker (``gw3``) its Redis database and store; pytest-django names its database."""
    number = int(worker.removeprefix("gw"))
    server = os.environ["REDIS_URL"].rpartition("/")[0]
    os.environ["REDIS_URL"] = f"{server}/{number + 1}"
    folder = Path(os.environ[FOLDER_VARIABLE])
    os.environ["STORE_DIR"] = str(folder / f"store-{worker}")
    static = folder / f"static-{worker}"
    static.mkdir(exist_ok=True)
    os.environ["STATIC_ROOT"] = str(static)


def shared_nodes() -> list[dict[str, Any]]:
    """The run's node-a, node-b and sandbox as ``TRITON_NODES`` entries; the first to ask starts
    them."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    described = folder / "nodes.json"
    with _locked(folder / "nodes.lock"):
        if not described.exists():
            children = _children(folder)
            _kept.append(children)
            venv = ensure_node_venv(children, say=print)
            secret = fresh_secrets().triton
            nodes = [
                make_node(
                    name=name,
                    is_sandbox=name == SANDBOX_NODE,
                    secret=secret,
                    folder=folder / "triton" / name,
                    venv=venv,
                    children=children,
                )
                for name in (*TRUSTED_NODES, SANDBOX_NODE)
            ]
            for node in nodes:
                node.begin()
            for node in nodes:
                node.await_ready()
                assert node.child is not None
                (folder / "pids" / str(node.child.pid)).touch()
            described.write_text(json.dumps([node.document() for node in nodes]))
    entries: list[dict[str, Any]] = json.loads(described.read_text())
    return entries


@contextmanager
def private_node(*, name: str = "private", is_sandbox: bool = False) -> Iterator[Node]:
    """A node of one test, to kill, stop and restart at will."""
    run = Path(os.environ[FOLDER_VARIABLE])
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=run))
    folder.chmod(0o755)
    children = Children(folder / "log")
    try:
        node = make_node(
            name=name,
            is_sandbox=is_sandbox,
            secret=fresh_secrets().triton,
            folder=folder,
            venv=ensure_node_venv(children, say=print),
            children=children,
        )
        node.start()
        try:
            yield node
        finally:
            if node.child is not None and node.child.alive:
                node.stop()
    finally:
        children.close()


def shared_chain() -> Anvil:
    """This process's own chain, in memory; it ends with the run."""
    folder = Path(os.environ[FOLDER_VARIABLE])
    children = _children(folder)
    _kept.append(children)
    tools = ensure_chain_tools(children, say=print)
    anvil = start_anvil(children, tools, name=f"chain-{os.getpid()}")
    (folder / "pids" / str(anvil.child.pid)).touch()
    return anvil


def _children(folder: Path) -> Children:
    # Opened without blocking: whether the controller holds the other end shows at the first read.
    lifeline = os.open(folder / "lifeline", os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(lifeline, True)
    return Children(folder / "log", lifeline=lifeline)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
