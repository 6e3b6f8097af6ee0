"""A marketplace for whole stories: real web server, worker and clock on a database of their own.

The first test that asks starts it, every worker uses it, and it ends with the run. It is spoken to
as people and programs do: over HTTP, with the ``infra`` command and with management commands.
Nothing is flushed between tests, so a story publishes under names of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
from psycopg import sql

from inframind.devstack import demo
from inframind.devstack.chain import ensure_contracts, start_anvil
from inframind.devstack.chaintools import ensure_chain_tools
from inframind.devstack.ports import LOOPBACK, free_ports
from inframind.devstack.processes import Children
from inframind.devstack.secrets import fresh_secrets
from inframind.devstack.web import Application
from inframind.lib.addresses import checksum_address
from inframind.lib.ids import new_uuid7
from tests import servers
from tests.journeys.bank import IFM, Bank

ROOT = Path(__file__).resolve().parents[2]
PUBLISHER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
STAFF = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CALLER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
SEEDED = ("filetype-v1", "language-id-v1", "summarizer-v1")
DATABASE = "journeys"
# Workers of the test run take the first ones; Redis has sixteen.
REDIS_NUMBER = 15
COMMAND_SECONDS = 120
STATE_SECONDS = 90
CREDITED_SECONDS = 60
_BALANCES = sql.SQL("SELECT code, posted_base_units FROM ledger_account WHERE code = ANY(%s)")
# What this process started, held so that nobody takes a forgotten program for a lost one.
_started: list[Children] = []


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """Its stdout, which has to be one line."""
        [line] = self.stdout.splitlines()
        return line

    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Market:
    """The running marketplace. ``packages`` are the demo's, built, by the model's name."""

    url: str
    database_url: str
    folder: str
    packages: dict[str, str]
    publisher_token: str
    bank: Bank
    env: dict[str, str] = field(repr=False)

    def manage(self, *arguments: str) -> Ran:
        """A management command."""
        return run_command([sys.executable, "manage.py", *arguments], env=self.env)

    def domain(self, code: str) -> str:
        """Python run inside the application, for what has no command yet; returns its output."""
        ran = self.manage("shell", "--no-imports", "--command", code)
        assert ran.status == 0, ran.stderr
        return ran.stdout

    def token(self, wallet: str, *actions: str, models: tuple[str, ...] = ()) -> str:
        """A fresh token of the wallet, minted as an operator does it."""
        ran = self.manage(*_minting(wallet, *actions, models=models))
        assert ran.status == 0, ran.stderr
        return ran.line

    def tokens(self, *wanted: tuple[str, ...]) -> list[str]:
        """A fresh token for each wallet with its actions, all minted by one process."""
        return self.domain(
            "from django.core.management import call_command\n"
            + "".join(f"call_command(*{_minting(*each)!r})\n" for each in wanted)
        ).split()

    def infra(self, *arguments: str, token: str = "", home: Path | None = None) -> Ran:
        """The ``infra`` command, in a shell that knows nothing but server and token."""
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "INFRA_URL": self.url,
            **{
                f"XDG_{each}_HOME": f"{self.folder}/no-files"
                for each in ("CONFIG", "DATA", "STATE")
            },
            **({"INFRA_TOKEN": token} if token else {}),
        }
        return run_command(
            [sys.executable, "-m", "inframind.cli", *arguments], env=env, cwd=home or ROOT
        )

    def http(self, token: str = "") -> httpx.Client:
        """A program's connection, with its token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def rows(self, query: sql.SQL, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database holds, read beside the application."""
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(query, parameters).fetchall()

    def package(self, source: str, name: str, into: Path, **changes: str) -> Path:
        """A copy of a demo package under another name; ``changes`` replace lines of its manifest
        that begin with the key."""
        folder = into / name
        shutil.copytree(self.packages[source], folder)
        wanted = {"name": name, **changes}
        lines = []
        for line in (folder / "model.yaml").read_text().splitlines():
            key = line.partition(":")[0]
            lines.append(f"{key}: {wanted.pop(key)}" if key in wanted else line)
        assert not wanted, f"the manifest has no {', '.join(wanted)}"
        (folder / "model.yaml").write_text("\n".join(lines) + "\n")
        return folder

    def fund(self, *wallets: str, ifm: int = 100) -> None:
        """Deposits so many IFM for each wallet, on chain; returns when they are credited."""
        codes = {f"wallet:{checksum_address(each)}" for each in wallets}
        before = self._posted(codes)
        for each in wallets:
            self.bank.deposit(each, ifm * IFM)
        deadline = time.monotonic() + CREDITED_SECONDS
        while any(
            posted < before[code] + ifm * IFM for code, posted in self._posted(codes).items()
        ):
            assert time.monotonic() < deadline, "the deposits were not credited"
            time.sleep(0.1)

    def _posted(self, codes: set[str]) -> dict[str, int]:
        found = {code: int(posted) for code, posted in self.rows(_BALANCES, list(codes))}
        return {code: found.get(code, 0) for code in codes}

    def register(self, folder: Path, *, token: str = "") -> dict[str, Any]:
        """Publishes without waiting for the verification; the registry's answer."""
        ran = self.infra(
            "register",
            "--model",
            str(folder),
            "--no-wait",
            "--json",
            token=token or self.publisher_token,
        )
        assert ran.status == 0, ran.stderr
        answer: dict[str, Any] = ran.json()
        return answer

    def await_state(self, name: str, state: str = "active", *, token: str = "") -> dict[str, Any]:
        """The model's document once its version 1.0.0 is in the state."""
        deadline = time.monotonic() + STATE_SECONDS
        with self.http(token or self.publisher_token) as http:
            while True:
                document: dict[str, Any] = http.get(f"/api/v1/models/{name}/versions/1.0.0").json()
                if document.get("state") == state:
                    return document
                said = {key: document.get(key) for key in ("state", "state_reason", "detail")}
                assert time.monotonic() < deadline, said
                time.sleep(0.2)

    def approve(self, reference: str, *, by: str = STAFF, note: str = "Read in full.") -> Ran:
        return self.manage(
            "review_version", reference, "--approve", "--reviewer", by, "--note", note
        )

    def example(self, name: str, index: int = 0) -> tuple[Any, Any]:
        """Input and golden output of a published example."""
        with self.http(self.publisher_token) as http:
            example = http.get(f"/api/v1/models/{name}").json()["manifest"]["examples"][index]
        return example["input"], example["output"]

    @classmethod
    def join(cls) -> Self:
        """The run's marketplace; the first to ask starts and stocks it."""
        run = Path(os.environ[servers.FOLDER_VARIABLE])
        described = run / "market.json"
        with _locked(run / "market.lock"):
            if not described.exists():
                described.write_text(json.dumps(asdict(cls._start(run))))
            found = json.loads(described.read_text())
            return cls(**{**found, "bank": Bank(**found["bank"])})

    @classmethod
    def _start(cls, run: Path) -> Self:
        folder = run / "market"
        folder.mkdir(exist_ok=True)
        (folder / "static").mkdir(exist_ok=True)
        [port] = free_ports(1)
        url = f"http://{LOOPBACK}:{port}"
        database_url = _make_database(os.environ["DATABASE_URL"])
        lifeline = os.open(run / "lifeline", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(lifeline, True)
        children = Children(folder / "log", lifeline=lifeline)
        _started.append(children)
        anvil = start_anvil(children, ensure_chain_tools(children, say=print))
        key = fresh_secrets().chain
        contracts = ensure_contracts(anvil, kept=folder / "contracts.json", key=key)
        bank = Bank.founded(anvil, contracts, key)
        env = {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": f"{os.environ['REDIS_URL'].rpartition('/')[0]}/{REDIS_NUMBER}",
            "TRITON_NODES": json.dumps(servers.shared_nodes()),
            "STORE_DIR": str(folder / "store"),
            "STATIC_ROOT": str(folder / "static"),
            "SITE_URL": url,
            "ETH_RPC_URL": anvil.url,
            "IFM_ADDRESS": contracts.ifm,
            "SETTLEMENT_ADDRESS": contracts.settlement,
            "SETTLEMENT_BLOCK": str(contracts.block),
            "CHAIN_CONFIRMATIONS": "1",
            "CHAIN_KEY": key,
            "FAUCET": "1",
            "LOAD_DEADLINE_SECONDS": "30",
            "ANONYMOUS_CALLS_PER_MINUTE": "6000",
            "SIGN_INS_PER_MINUTE": "6000",
            "PYTHONWARNINGS": "",
        }
        application = Application(children, ROOT, env)
        application.manage("migrate", "--no-input", "--verbosity=0")
        web = application.web(port)
        beat = application.beat(folder / "beat-schedule")
        for child in (anvil.child, web, application.worker(), beat):
            # The run waits for their ends before it removes its folder.
            (run / "pids" / str(child.pid)).touch()
        application.await_web(web, port)
        built = demo.build(folder / "packages")
        packages = {package.name.removesuffix("-1.0.0"): str(package) for package in built}
        market = cls(url, database_url, str(folder), packages, "", bank, env)
        return market._stocked()

    def _stocked(self) -> Self:
        """With three real models, verified, and the lists counted."""
        [token] = self.domain(
            "from django.core.management import call_command\n"
            "from inframind.identity.models import Wallet\n"
            "from marketplace.mesh import services\n"
            "services.sync_configured_nodes()\n"
            "services.probe_all()\n"
            f"staff = Wallet.objects.of({STAFF!r})\n"
            "staff.is_staff = True\n"
            "staff.save()\n"
            f"call_command(*{_minting(PUBLISHER, 'publish', 'invoke', 'manage')!r})\n"
        ).split()
        stocked = replace(self, publisher_token=token)
        stocked.fund(CALLER, PUBLISHER)
        for name in SEEDED:
            stocked.register(Path(self.packages[name]))
        assert stocked.approve("summarizer-v1@1.0.0").status == 0
        for name in SEEDED:
            stocked.await_state(name)
        assert stocked.manage("refresh_lists").status == 0
        return stocked


def _minting(wallet: str, *actions: str, models: tuple[str, ...] = ()) -> list[str]:
    return [
        "mint_token",
        f"--wallet={wallet}",
        *(f"--action={action}" for action in actions),
        *(f"--model={model}" for model in models),
    ]


def tar_of(folder: Path, path: Path) -> Path:
    """The folder's files as a tar at ``path``, as ``tar -C folder -cf path .`` writes them."""
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=".")
    return path


def fresh_name(stem: str) -> str:
    """A name that no other story publishes."""
    return f"{stem}-{new_uuid7().hex[-8:]}"


def fresh_wallet() -> str:
    """An address that nobody has used."""
    return "0x" + new_uuid7().hex + "00000000"


def run_command(command: list[str], *, env: dict[str, str], cwd: Path = ROOT) -> Ran:
    done = subprocess.run(
        command,
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def _make_database(server_url: str) -> str:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{DATABASE}"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
