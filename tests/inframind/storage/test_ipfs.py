import io
import threading
from pathlib import Path

import pytest

from inframind.storage.errors import (
    CidMismatch,
    ContentNotFound,
    HashMismatch,
    PackageRejected,
    StoreUnavailable,
)
from inframind.storage.ipfs import IpfsStore, multiaddr_of
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits

from .archives import package
from .kubo import KuboNode

_LIMITS = PackageLimits()
_FILES = {
    "model.yaml": b"name: x",
    "weights/big.bin": bytes(range(251)) * 10_000,
    "weights/empty": b"",
    ".hidden": b"h",
    'odd "names" %41 ü+&;/a b': b"odd",
}


def _ipfs(kubo: KuboNode, tmp_path: Path, **options: float) -> IpfsStore:
    return IpfsStore(kubo.api, root=tmp_path, **options)


def test_ipfs_and_the_embedded_store_give_one_cid_and_one_export(
    kubo: KuboNode, store: LocalStore, tmp_path: Path
) -> None:
    ipfs = _ipfs(kubo, tmp_path)
    remote = ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS)
    assert remote == store.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS)
    assert ipfs.files(remote.cid) == remote.files
    exported = b"".join(ipfs.export_tar(remote.cid))
    assert exported == b"".join(store.export_tar(remote.cid))
    for path, data in _FILES.items():
        assert b"".join(ipfs.open(remote.cid, path)) == data
    assert list((tmp_path / "staging").iterdir()) == []


def test_pins_come_and_go_with_the_package(kubo: KuboNode, tmp_path: Path) -> None:
    ipfs = _ipfs(kubo, tmp_path)
    cid = ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS).cid
    assert ipfs.exists(cid)
    assert kubo.pins == {cid}
    ipfs.delete(cid)
    ipfs.delete(cid)
    assert not ipfs.exists(cid)
    assert not ipfs.exists("not a cid")


def test_only_what_was_sent_from_here_is_told_as_kept(kubo: KuboNode, tmp_path: Path) -> None:
    ipfs = _ipfs(kubo, tmp_path)
    assert (list(ipfs.kept()), ipfs.collect()) == ([], 0)
    kubo.pins.add("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
    cid = ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS).cid
    assert [kept for kept, _ in ipfs.kept()] == [cid]
    ipfs.delete(cid)
    assert list(ipfs.kept()) == []


def test_answers_in_another_base_are_compared_by_bytes(kubo: KuboNode, tmp_path: Path) -> None:
    kubo.answers_base58 = True
    cid = _ipfs(kubo, tmp_path).add_package(io.BytesIO(package(_FILES)), limits=_LIMITS).cid
    assert kubo.pins == {cid}


def test_a_node_that_chunks_differently_is_told_apart_and_unpinned(
    kubo: KuboNode, tmp_path: Path
) -> None:
    kubo.ignores_chunker = True
    with pytest.raises(StoreUnavailable, match="unixfs-v1-2025"):
        _ipfs(kubo, tmp_path).add_package(io.BytesIO(package(_FILES)), limits=_LIMITS)
    assert kubo.pins == set()


def test_a_bad_package_or_another_cid_never_reaches_the_node(
    kubo: KuboNode, store: LocalStore, tmp_path: Path
) -> None:
    ipfs = _ipfs(kubo, tmp_path)
    with pytest.raises(PackageRejected):
        ipfs.add_package(io.BytesIO(package(_FILES)[:100_000]), limits=_LIMITS)
    other = store.add_package(io.BytesIO(package({"a": b"1"})), limits=_LIMITS)
    with pytest.raises(CidMismatch):
        ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS, expected_cid=other.cid)
    assert (kubo.blocks, kubo.pins) == ({}, set())
    assert list((tmp_path / "staging").iterdir()) == []


def test_every_block_that_the_node_returns_is_hashed(kubo: KuboNode, tmp_path: Path) -> None:
    ipfs = _ipfs(kubo, tmp_path)
    stored = ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS)
    whole = dict(kubo.blocks)
    for cid, block in whole.items():
        kubo.blocks[cid] = block + b"\0"
        with pytest.raises(HashMismatch):
            b"".join(ipfs.export_tar(stored.cid))
        kubo.blocks[cid] = bytes(3 * 1024 * 1024)
        with pytest.raises(HashMismatch):
            b"".join(ipfs.export_tar(stored.cid))
        kubo.blocks[cid] = block


def test_missing_content_silence_and_a_dead_node_are_told_apart(
    kubo: KuboNode, tmp_path: Path
) -> None:
    ipfs = _ipfs(kubo, tmp_path, read_timeout_seconds=0.3)
    cid = ipfs.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS).cid
    block = kubo.blocks.pop(cid)
    with pytest.raises(ContentNotFound):
        ipfs.files(cid)
    kubo.blocks[cid] = block
    kubo.hang = threading.Event()
    with pytest.raises(StoreUnavailable, match="in time"):
        ipfs.files(cid)
    kubo.hang.set()
    dead = IpfsStore("http://127.0.0.1:1", root=tmp_path)
    with pytest.raises(StoreUnavailable, match="IPFS_API"):
        dead.exists(cid)


@pytest.mark.parametrize(
    ("api", "multiaddr"),
    [
        ("/ip4/127.0.0.1/tcp/5001/http", "/ip4/127.0.0.1/tcp/5001/http"),
        ("http://127.0.0.1:5001", "/ip4/127.0.0.1/tcp/5001/http"),
        ("https://ipfs.example.org/", "/dns/ipfs.example.org/tcp/443/https"),
        ("http://[::1]:5001", "/ip6/::1/tcp/5001/http"),
    ],
)
def test_an_api_is_given_as_url_or_multiaddr(api: str, multiaddr: str) -> None:
    assert multiaddr_of(api) == multiaddr


@pytest.mark.parametrize("api", ["127.0.0.1:5001", "ftp://x", "http://host/path", "http://"])
def test_other_api_addresses_are_refused(api: str) -> None:
    with pytest.raises(ValueError, match="IPFS API"):
        multiaddr_of(api)
