"""A store of the test's own, and a keeper of receipts in place of the gateway's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connection
from pytest_django import Settings

from billing.epochs import queries, sources
from tests.billing.epochs.keeper import Keeper


@pytest.fixture(autouse=True)
def store_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.STORE_DIR = tmp_path / "store"
    settings.IPFS_API = ""
    # Epochs of another test's database had the same numbers.
    queries.forget_trees()
    return tmp_path / "store"


@pytest.fixture
def keeper(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """The registered source; ``tests.billing.epochs.keeper.record`` gives it calls."""
    with _registered(monkeypatch) as kept:
        yield kept


@pytest.fixture
def committed_keeper(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    """The same where other processes and threads see what is written."""
    with _registered(monkeypatch) as kept:
        yield kept


@contextmanager
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    kept = Keeper()
    monkeypatch.setattr(sources, "_source", kept)
    try:
        yield kept
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE kept_receipt")
