"""A real HTTP server that plays answers, for what the transport may do to the command."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from eth_account import Account
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from inframind.cli.main import main

TOKEN = "infra_" + "a" * 60
ENVIRONMENT = (
    "INFRA_URL",
    "INFRA_TOKEN",
    "INFRA_PRIVATE_KEY",
    "INFRA_PASSWORD_FILE",
    "INFRA_NODE_SECRET",
    "INFRA_CHAIN_ID",
    "INFRA_RPC_URL",
)


@dataclass
class Answer:
    """What a path answers; ``cut`` closes the connection before the promised length is sent."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    delay: threading.Event | None = None


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class PlayedServer:
    """Answers by method and path; lists give one answer after the other and repeat the last."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.asked: list[Asked] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(length)
                path = self.path.partition("?")[0]
                played.asked.append(Asked(self.command, self.path, dict(self.headers), body))
                queue = played.answers.get((self.command, path), [Answer(b"lost", 404)])
                answer = queue.pop(0) if len(queue) > 1 else queue[0]
                if answer.delay is not None:
                    answer.delay.wait(20)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body) + 1000 * answer.cut))
                self.end_headers()
                # A client that has seen enough hangs up before the end.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.wfile.write(answer.body)
                self.close_connection = answer.cut

            do_GET = do_POST = do_PUT = _serve

            def log_message(self, *_: Any) -> None:
                """Tests read the command's output, not the server's log."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path] = list(answers)

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[PlayedServer]:
    played = PlayedServer()
    yield played
    played.stop()


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the settings of whoever runs it."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, folder in (("CONFIG", "config"), ("STATE", "state"), ("DATA", "data")):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Outcome:
    status: int
    stdout: str
    stderr: str


Infra = Callable[..., Outcome]


@pytest.fixture
def infra(capsys: pytest.CaptureFixture[str]) -> Infra:
    """Runs a command line in this process."""

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


KEY = "0x" + "4c" * 32
OTHER_KEY = "0x" + "5d" * 32
ADDRESS = str(Account.from_key(KEY).address)
OTHER = str(Account.from_key(OTHER_KEY).address)


@pytest.fixture
def at_live_server(
    live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> str:
    """The real application under its own address, and a wallet to sign in with; its URL."""
    settings.SITE_URL = live_server.url
    settings.STORE_DIR = tmp_path / "store"
    settings.SIGN_INS_PER_MINUTE = 1000
    cache.clear()
    monkeypatch.setenv("INFRA_URL", live_server.url)
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    return str(live_server.url)


@pytest.fixture
def signed_in(at_live_server: str, infra: Infra) -> str:
    """The wallet is signed in at the real application; its URL."""
    outcome = infra("login")
    assert outcome.status == 0, outcome.stderr
    return at_live_server
