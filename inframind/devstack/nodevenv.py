"""A node's own Python environment: it is another machine in real life, and wants numpy below 2."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from inframind.devstack.processes import Children, StackProblem

VERSIONS = ("3.11", "3.12")
ENVIRONMENT_VARIABLE = "INFRAMIND_NODE_VENV"
ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "requirements-node.txt"


@dataclass(frozen=True, slots=True)
class NodeVenv:
    """An installed node environment. ``version`` is its Python's, like ``3.11``."""

    path: Path
    version: str

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python3"

    @property
    def packages(self) -> Path:
        return self.path / "lib" / f"python{self.version}" / "site-packages"

    @property
    def base_python(self) -> Path:
        """The folder of the Python installation that the environment was made with."""
        return self.python.resolve().parent.parent


def node_venv_path() -> Path:
    """Where the environment lies: ``INFRAMIND_NODE_VENV``, or below the clone's ``var``."""
    return Path(os.environ.get(ENVIRONMENT_VARIABLE) or ROOT / "var" / "node-venv").resolve()


def ensure_node_venv(children: Children, *, say: Callable[[str], None]) -> NodeVenv:
    """The node environment of this clone; made where it is missing.

    Nothing is installed while the requirements are those of the last time. Raises StackProblem
    where no fitting Python is found or pip fails.
    """
    path = node_venv_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = path / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    with _locked(path.with_name(f".{path.name}.lock")):
        if not stamp.exists() or stamp.read_text() != wanted:
            say("Installing the environment of the Triton nodes (once, about 200 MB to fetch)")
            if not (path / "bin" / "pip").exists():
                shutil.rmtree(path, ignore_errors=True)
                children.run(
                    "node-venv",
                    [_fitting_python(), "-m", "venv", str(path)],
                    env=os.environ,
                    cwd=path.parent,
                )
            children.run(
                "node-venv",
                [
                    str(path / "bin" / "pip"),
                    "install",
                    "--no-input",
                    "--no-deps",
                    "-r",
                    str(REQUIREMENTS),
                ],
                env=os.environ,
                cwd=path.parent,
            )
            stamp.write_text(wanted)
    [library] = (path / "lib").glob("python3.*")
    return NodeVenv(path, library.name.removeprefix("python"))


def _fitting_python() -> str:
    candidates = [sys.executable, *(shutil.which(f"python{each}") for each in VERSIONS)]
    for candidate in candidates:
        if candidate is not None and _version(candidate) in VERSIONS:
            return candidate
    raise StackProblem(
        "The Triton nodes need Python 3.11 or 3.12 (numpy 1.26 has no wheel for a newer one), and "
        f"neither was found; this is {_version(sys.executable)}. Install one so that `python3.12` "
        f"is on PATH, or set {ENVIRONMENT_VARIABLE} to an environment with requirements-node.txt, "
        "or set TRITON_NODES to nodes that run already."
    )


def _version(python: str) -> str:
    said = subprocess.run(
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time across processes: two stacks may share the environment."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
