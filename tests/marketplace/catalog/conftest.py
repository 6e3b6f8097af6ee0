"""What the catalog's tests share: a store of their own, wallets, and ways to publish."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest
from pytest_django import Settings

from inframind.identity.models import Wallet
from marketplace.catalog import services, trial
from marketplace.catalog.models import Version
from tests.marketplace.catalog.support import (
    MANIFEST,
    OWNER,
    STAFF,
    STRANGER,
    PlayedNode,
    onnx_package,
)


@pytest.fixture(autouse=True)
def store_dir(settings: Settings, tmp_path: Path) -> Path:
    settings.STORE_DIR = tmp_path / "store"
    settings.IPFS_API = ""
    return tmp_path / "store"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> PlayedNode:
    played = PlayedNode()
    monkeypatch.setattr(trial, "_lender", played.lend)
    return played


@pytest.fixture
def owner(db: None) -> Wallet:
    return Wallet.objects.of(OWNER)


@pytest.fixture
def stranger(db: None) -> Wallet:
    return Wallet.objects.of(STRANGER)


@pytest.fixture
def staff(db: None) -> Wallet:
    wallet = Wallet.objects.of(STAFF)
    wallet.is_staff = True
    wallet.save()
    return wallet


class Publish(Protocol):
    def __call__(
        self, manifest: str = ..., *, by: Wallet | None = ..., **kwargs: Any
    ) -> Version: ...


@pytest.fixture
def publish(owner: Wallet) -> Publish:
    """Registers the echo package, or another manifest, by the owner."""

    def publish(manifest: str = MANIFEST, *, by: Wallet | None = None, **kwargs: Any) -> Version:
        stream = onnx_package(manifest)
        return services.register(publisher=by or owner, stream=stream, **kwargs).version

    return publish


@pytest.fixture
def activated(publish: Publish, node: PlayedNode) -> Publish:
    """Registers and verifies."""

    def activated(manifest: str = MANIFEST, **kwargs: Any) -> Version:
        version = publish(manifest, **kwargs)
        services.verify_next()
        version.refresh_from_db()
        return version

    return activated
