import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from inframind.lib.cid import CHUNK_BYTES
from inframind.storage.errors import (
    CidMismatch,
    ContentNotFound,
    ContentTooLarge,
    HashMismatch,
)
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits, StoredPackage

from .archives import package

_LIMITS = PackageLimits()
_FILES = {"model.yaml": b"name: x", "w/big": b"0123456789" * 250_000, "w/same": b"s", "t": b"s"}


def _add(store: LocalStore, files: dict[str, bytes]) -> StoredPackage:
    return store.add_package(io.BytesIO(package(files)), limits=_LIMITS)


def _blocks(store: LocalStore) -> set[Path]:
    return {path for path in (store.root / "blocks").rglob("*") if path.is_file()}


def _add_in_process(root: Path) -> str:
    return _add(LocalStore(root), _FILES).cid


def test_a_package_is_listed_and_read_back(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    assert stored.cid.startswith("bafybei")
    assert store.exists(stored.cid)
    assert store.files(stored.cid) == stored.files
    assert [(file.path, file.size_bytes) for file in stored.files] == sorted(
        (path, len(data)) for path, data in _FILES.items()
    )
    for path, data in _FILES.items():
        assert b"".join(store.open(stored.cid, path)) == data
        assert store.read_bytes(stored.cid, path, limit_bytes=len(data)) == data
    assert max(map(len, store.open(stored.cid, "w/big"))) == CHUNK_BYTES


def test_another_process_sees_the_same_package(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    assert LocalStore(store.root).files(stored.cid) == stored.files


def test_what_is_not_there_is_said_at_once(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    with pytest.raises(ContentNotFound, match="no file 'nope'"):
        store.open(stored.cid, "nope")
    with pytest.raises(ContentNotFound):
        store.open(stored.cid, "w")
    with pytest.raises(ContentTooLarge, match="at most 6 are read"):
        store.read_bytes(stored.cid, "model.yaml", limit_bytes=6)
    for cid in ("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354", "nonsense", "../x"):
        assert not store.exists(cid)
        store.delete(cid)
        with pytest.raises(ContentNotFound):
            store.export_tar(cid)


def test_a_damaged_block_is_never_handed_out_and_publishing_again_repairs_it(
    store: LocalStore,
) -> None:
    stored = _add(store, _FILES)
    good = b"".join(store.export_tar(stored.cid))
    for path in _blocks(store):
        whole = path.read_bytes()
        path.write_bytes(bytes((whole[0] ^ 1,)) + whole[1:])
        with pytest.raises(HashMismatch, match=path.name):
            b"".join(store.export_tar(stored.cid))
        path.write_bytes(whole[:-1])
        with pytest.raises(HashMismatch):
            b"".join(store.export_tar(stored.cid))
        _add(store, _FILES)
        assert b"".join(store.export_tar(stored.cid)) == good


def test_a_missing_block_is_an_error_not_a_short_file(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    leaf = next(path for path in _blocks(store) if path.stat().st_size == CHUNK_BYTES)
    leaf.unlink()
    with pytest.raises(ContentNotFound):
        b"".join(store.open(stored.cid, "w/big"))


def test_a_file_or_block_is_not_a_package(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    for file in stored.files:
        assert not store.exists(file.cid)
        with pytest.raises(HashMismatch, match="directory"):
            store.files(file.cid)


def test_deleting_a_package_keeps_what_others_share(store: LocalStore) -> None:
    one = _add(store, _FILES)
    before = _blocks(store)
    other = _add(store, _FILES | {"model.yaml": b"name: y"})
    store.delete(other.cid)
    assert _blocks(store) == before
    assert not store.exists(other.cid)
    assert b"".join(store.export_tar(one.cid))
    store.delete(one.cid)
    store.delete(one.cid)
    assert _blocks(store) == set()


def test_another_cid_than_the_expected_one_stores_nothing(store: LocalStore) -> None:
    right = _add(store, {"a": b"1"}).cid
    before = _blocks(store)
    with pytest.raises(CidMismatch) as caught:
        store.add_package(io.BytesIO(package({"a": b"2"})), limits=_LIMITS, expected_cid=right)
    assert caught.value.expected == right
    assert _blocks(store) == before
    assert list((store.root / "staging").iterdir()) == []
    again = store.add_package(io.BytesIO(package({"a": b"1"})), limits=_LIMITS, expected_cid=right)
    assert again.cid == right


def test_a_stream_that_breaks_stores_nothing(store: LocalStore) -> None:
    class Broken:
        def __init__(self) -> None:
            self.left = io.BytesIO(package(_FILES)[:1_500_000])

        def read(self, size: int, /) -> bytes:
            piece = self.left.read(size)
            if not piece:
                raise ConnectionResetError("the client is gone")
            return piece

    with pytest.raises(ConnectionResetError):
        store.add_package(Broken(), limits=_LIMITS)
    assert _blocks(store) == set()
    assert list((store.root / "staging").iterdir()) == []


def test_a_commit_that_fails_half_way_takes_its_blocks_back(store: LocalStore) -> None:
    marks = store.root / "packages"
    marks.rmdir()
    marks.write_bytes(b"in the way")
    with pytest.raises(OSError, match="Not a directory"):
        _add(store, _FILES)
    assert _blocks(store) == set()


def test_uploads_of_dead_processes_are_swept_and_running_ones_are_not(store: LocalStore) -> None:
    staging = store.root / "staging"
    for name, age_seconds in (("old", 25 * 3600), ("young", 3600)):
        (staging / name).mkdir()
        (staging / name / "block").write_bytes(b"x")
        moment = time.time() - age_seconds
        os.utime(staging / name, (moment, moment))
    _add(store, {"a": b"1"})
    assert [path.name for path in staging.iterdir()] == ["young"]


def test_packages_are_told_with_the_time_of_their_last_storing(store: LocalStore) -> None:
    cid = _add(store, {"a": b"1"}).cid
    os.utime(store.root / "packages" / cid, (1, 1))
    assert list(store.kept()) == [(cid, 1.0)]
    _add(store, {"a": b"1"})
    ((same, stored_at),) = store.kept()
    assert (same, time.time() - stored_at < 60) == (cid, True)


def test_blocks_that_a_lost_process_left_are_collected_and_others_stay(store: LocalStore) -> None:
    kept = _add(store, _FILES)
    before = _blocks(store)
    lost = _add(store, _FILES | {"model.yaml": b"name: y"})
    (store.root / "packages" / lost.cid).unlink()
    loose = _blocks(store) - before
    assert store.collect() == len(loose) > 0
    assert _blocks(store) == before
    assert b"".join(store.export_tar(kept.cid))


def test_a_listed_file_is_opened_without_the_listing(store: LocalStore) -> None:
    stored = _add(store, _FILES)
    read = {file.path: b"".join(store.open_file(file)) for file in stored.files}
    assert read == _FILES


def test_many_writers_and_deleters_of_one_content_never_break_it(store: LocalStore) -> None:
    shared = {"shared": b"s" * 3_000_000}

    def churn(number: int) -> bytes:
        mine = _add(store, shared | {"mine": str(number).encode()}).cid
        content = store.read_bytes(mine, "shared", limit_bytes=4_000_000)
        store.delete(mine)
        return content

    kept = _add(store, shared).cid
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(churn, range(24))) == {shared["shared"]}
    assert store.read_bytes(kept, "shared", limit_bytes=4_000_000) == shared["shared"]
    store.delete(kept)
    assert _blocks(store) == set()


def test_processes_that_write_the_same_package_agree(store: LocalStore) -> None:
    with get_context("spawn").Pool(2) as pool:
        cids = pool.map(_add_in_process, [store.root] * 4)
    assert set(cids) == {_add(store, _FILES).cid}
    assert b"".join(store.open(cids[0], "w/big")) == _FILES["w/big"]
