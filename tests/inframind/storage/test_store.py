from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from inframind.storage.ipfs import IpfsStore
from inframind.storage.local import LocalStore
from inframind.storage.store import Store, get_store


def test_the_embedded_store_is_the_default(settings: Settings, tmp_path: Path) -> None:
    settings.STORE_DIR = tmp_path
    settings.IPFS_API = ""
    store: Store = get_store()
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path


@pytest.mark.parametrize("api", ["http://127.0.0.1:5001", "/dns/ipfs/tcp/5001/http"])
def test_ipfs_is_used_when_it_is_named(settings: Settings, tmp_path: Path, api: str) -> None:
    settings.STORE_DIR = tmp_path
    settings.IPFS_API = api
    store: Store = get_store()
    assert isinstance(store, IpfsStore)
