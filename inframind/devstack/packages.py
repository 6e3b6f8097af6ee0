"""Where the wheels that carry a server were installed, found without importing them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from inframind.devstack.processes import StackProblem


def folder_of(package: str) -> Path:
    """The folder of an installed package. Raises StackProblem where it is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise StackProblem(
            f"The package {package} is not installed. Run: make install "
            "(or pip install -r requirements-dev.txt)"
        )
    return Path(spec.origin).parent
