"""Files that anyone may fetch by their CID, in the embedded store and on an IPFS node."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from pytest_django import Settings

from inframind.lib.cid import CHUNK_BYTES, Cid, FileBuilder, parse_cid
from inframind.storage import dumps
from inframind.storage.errors import ContentNotFound, HashMismatch
from inframind.storage.store import get_store

from .kubo import KuboNode

SIZES = [1, 1000, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 17]


@pytest.fixture(params=["embedded", "ipfs"])
def kept_by(
    request: pytest.FixtureRequest, settings: Settings, tmp_path: Path, kubo: KuboNode
) -> str:
    settings.STORE_DIR = tmp_path
    settings.IPFS_API = kubo.api if request.param == "ipfs" else ""
    return str(request.param)


def cid_of(content: bytes) -> str:
    builder = FileBuilder(lambda cid, block: None)
    builder.feed(content)
    return str(builder.finish().cid)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_read_back_by_the_cid_of_its_bytes(kept_by: str, size: int) -> None:
    content = bytes(index % 251 for index in range(size))
    cid = dumps.add(io.BytesIO(content), name="tree-1.json")
    assert cid == cid_of(content)
    assert b"".join(dumps.read(cid)) == content
    assert dumps.is_whole(cid)
    assert dumps.add(io.BytesIO(content), name="tree-1.json") == cid


def test_what_is_not_here_is_not_whole(kept_by: str) -> None:
    for cid in (cid_of(b"elsewhere"), cid_of(bytes(2 * CHUNK_BYTES)), "no-cid"):
        with pytest.raises(ContentNotFound):
            dumps.read(cid)
        assert not dumps.is_whole(cid)


@pytest.mark.parametrize("harm", ["damaged", "lost", "longer"])
@pytest.mark.parametrize("size", [1000, 3 * CHUNK_BYTES])
def test_a_damaged_file_is_not_handed_out(
    settings: Settings, tmp_path: Path, harm: str, size: int
) -> None:
    settings.STORE_DIR = tmp_path
    settings.IPFS_API = ""
    content = bytes(index % 251 for index in range(size))
    cid = dumps.add(io.BytesIO(content), name="receipts-1.jsonl")
    block = max((tmp_path / "dumps" / "blocks").glob("*/*/*"), key=lambda each: each.stat().st_size)
    if harm == "lost":
        block.unlink()
    elif harm == "damaged":
        block.write_bytes(b"\xff" + block.read_bytes()[1:])
    else:
        block.write_bytes(block.read_bytes() + b"more")
    assert not dumps.is_whole(cid)
    with pytest.raises((HashMismatch, ContentNotFound)):
        b"".join(dumps.read(cid))


def test_a_directory_is_no_file(kept_by: str, settings: Settings) -> None:
    cid = dumps.add(io.BytesIO(b"{}"), name="tree-1.json")
    directories = [each for each in map(parse_cid, _kept(settings)) if each.codec == 0x70]
    assert directories
    for directory in directories:
        assert str(directory) != cid
        with pytest.raises(HashMismatch, match="no file"):
            dumps.read(str(directory))


def test_the_sweep_of_packages_sees_no_dump(kept_by: str) -> None:
    cid = dumps.add(io.BytesIO(b"{}"), name="tree-1.json")
    store = get_store()
    assert list(store.kept()) == []
    store.collect()
    assert dumps.is_whole(cid)


def _kept(settings: Settings) -> list[str]:
    root = Path(settings.STORE_DIR) / "dumps"
    marks = root / ("pinned" if settings.IPFS_API else "packages")
    return [mark.name for mark in marks.iterdir()]


def test_the_cid_is_of_version_one_over_sha2(kept_by: str) -> None:
    cid = dumps.add(io.BytesIO(b"{}\n"), name="tree-1.json")
    assert parse_cid(cid) == Cid.of(0x55, b"{}\n")
