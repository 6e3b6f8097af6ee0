"""A node that does not always tell the truth: a proxy before the real one that rewrites answers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import httpx

# Method, parameters, what the real node answered; returns what is answered instead.
Lie = Callable[[str, list[Any], Any], Any]


@dataclass(frozen=True)
class Raw:
    """Octets answered in place of any JSON."""

    octets: bytes = b"<html>Bad gateway</html>"
    status: int = 200


@dataclass(frozen=True)
class Refusal:
    """A JSON-RPC error."""

    message: str = "internal error"


@dataclass(frozen=True)
class Silence:
    """No answer for so long."""

    seconds: float


@dataclass
class LyingNode:
    """``lie`` is asked at each answer; None: the truth."""

    truth: str
    url: str = ""
    lie: Lie | None = None
    asked: list[str] = field(default_factory=list)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))

    def answer(self, body: bytes) -> Raw:
        asked = json.loads(body)
        told = self.client.post(self.truth, content=body, headers=_JSON).json()
        many = isinstance(asked, list)
        questions, answers = (asked, told) if many else ([asked], [told])
        by_id = {answer["id"]: answer for answer in answers}
        for question in questions:
            self.asked.append(question["method"])
            answer = by_id[question["id"]]
            if self.lie is None or "result" not in answer:
                continue
            said = self.lie(question["method"], question["params"], answer["result"])
            if isinstance(said, Raw):
                return said
            if isinstance(said, Silence):
                time.sleep(said.seconds)
                return Raw(b"")
            if isinstance(said, Refusal):
                answer.pop("result")
                answer["error"] = {"code": -32000, "message": said.message}
            else:
                answer["result"] = said
        return Raw(json.dumps(told).encode())


@contextmanager
def lying(truth: str) -> Iterator[LyingNode]:
    """A running proxy before the node at ``truth``; it tells the truth until it is told to lie."""
    node = LyingNode(truth)

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1  # headers and body leave together

        def do_POST(self) -> None:
            said = node.answer(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                self.send_response(said.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(said.octets)))
                self.end_headers()
                self.wfile.write(said.octets)
            except OSError:
                pass  # whoever asked has gone

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    node.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield node
    finally:
        node.client.close()
        server.shutdown()
        server.server_close()
        thread.join()


_JSON = {"Content-Type": "application/json"}
