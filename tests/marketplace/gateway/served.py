"""The web process as it is started, over the test's own database, and plain HTTP to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.db import connection

from inframind.devstack.ports import answers_ok, free_ports

REFERENCE = "inframind.asgi:reference"
PRODUCTION = "inframind.asgi:application"
_START_SECONDS = 60


@dataclass(frozen=True)
class Answered:
    """What came back: header lines by lower-case name in the order they came, and the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name.lower()), "")


@contextmanager
def served(target: str, **environment: str) -> Iterator[int]:
    """A uvicorn that serves the target; its port."""
    parts = urlsplit(settings.DATABASE_URL)
    database = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    [port] = free_ports(1)
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", target, "--host=127.0.0.1", f"--port={port}"),
            *("--no-server-header", "--timeout-graceful-shutdown=2"),
        ],
        cwd=settings.BASE_DIR,
        env={
            **os.environ,
            "DATABASE_URL": database,
            "REDIS_URL": settings.REDIS_URL,
            "STORE_DIR": str(settings.STORE_DIR),
            "LOG_LEVEL": "ERROR",
            "ACCESS_LOG": "0",
            **environment,
        },
    ) as child:
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not answers_ok(port, "/livez"):
                assert child.poll() is None, "The server ended before it answered."
                assert time.monotonic() < deadline, "The server does not come up."
                time.sleep(0.1)
            yield port
        finally:
            child.terminate()
            child.wait(20)


def request(
    method: str, target: str, body: bytes = b"", *lines: str, host: str = "127.0.0.1"
) -> bytes:
    """The bytes of a request with its length, closing the connection after its answer."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *lines]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def exchange(port: int, *sent: bytes) -> Answered:
    """Sends the pieces as they are, and reads one answer, interim ones left out."""
    with socket.create_connection(("127.0.0.1", port), 30) as connected:
        try:
            for each in sent:
                connected.sendall(each)
        except OSError:
            pass  # it has answered without reading to the end
        method = sent[0].split(b" ", 1)[0].decode("latin-1")
        answer = HTTPResponse(connected, method=method)
        answer.begin()
        body = answer.read()
    headers = tuple((name.lower(), value) for name, value in answer.getheaders())
    return Answered(answer.status, headers, body)
