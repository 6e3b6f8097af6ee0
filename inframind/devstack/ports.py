"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import socket
from http.client import HTTPConnection, HTTPException

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Different ports that were free a moment ago; who uses one still has to check its child."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_taken(port: int) -> bool:
    """Whether another program listens on the port."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def answers_ok(port: int, path: str) -> bool:
    """Whether an HTTP server on the port answers 200 for the path."""
    connection = HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()
