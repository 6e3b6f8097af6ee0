from collections.abc import Iterator
from pathlib import Path

import pytest

from inframind.storage.local import LocalStore

from .kubo import KuboNode


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def kubo() -> Iterator[KuboNode]:
    with KuboNode() as node:
        yield node
