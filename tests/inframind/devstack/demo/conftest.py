"""The packages, built once, and a node's Python to run them in."""

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from inframind.devstack.demo import build
from inframind.devstack.demo.packages import WHEELS
from inframind.devstack.demo.wheels import ROOT
from tests.inframind.devstack.demo.node import RunningPackage


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The built packages by their model's name."""
    built = build(tmp_path_factory.mktemp("packages"))
    return {package.name.removesuffix("-1.0.0"): package for package in built}


@pytest.fixture(scope="session")
def node_python() -> Path:
    """The Python of a node's own environment, which requirements-node.txt fills."""
    python = Path(os.environ.get("NODE_PYTHON", ROOT / "var" / "node-venv" / "bin" / "python"))
    if not python.exists():
        pytest.fail(
            f"There is no node environment at {python}: run make install, or set NODE_PYTHON."
        )
    return python


@pytest.fixture(scope="session")
def running(
    packages: dict[str, Path], node_python: Path
) -> Iterator[Callable[[str], RunningPackage]]:
    """Starts a package by its model's name, once a session."""
    started: dict[str, RunningPackage] = {}
    with ExitStack() as stack:

        def start(name: str) -> RunningPackage:
            if name not in started:
                started[name] = stack.enter_context(RunningPackage(node_python, packages[name]))
            return started[name]

        yield start


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks the wheel of an original library to compare with; gives a folder to import from."""

    def unpack(distribution: str) -> Path:
        folder = tmp_path_factory.mktemp(distribution)
        with zipfile.ZipFile(next(WHEELS.glob(f"{distribution}-*.whl"))) as wheel:
            wheel.extractall(folder)
        return folder

    return unpack
