"""Sealed packages: what the store sees of them, who opens them, and what stays behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.storage import sealed
from inframind.storage.errors import ContentNotFound, HashMismatch, StoreUnavailable
from inframind.storage.ipfs import IpfsStore
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits, StoredPackage
from inframind.storage.resealing import HeadUnusable, reseal
from inframind.storage.store import Store
from inframind.storage.tar import BLOCK_BYTES, write_tar

from .archives import package
from .kubo import KuboNode

MARKER = b"The marker of the plaintext, which no block may hold."
FILES = {
    "model.yaml": b"name: hidden-name\n",
    "weights/layer-seven.bin": MARKER * 40_000,
    "README.md": b"# Hidden title\n" + MARKER,
}
TELLING = (MARKER, b"hidden-name", b"Hidden title", b"layer-seven", b"model.yaml", b"README")


def plain_package(tmp_path: Path) -> tuple[LocalStore, StoredPackage]:
    plain = LocalStore(tmp_path / "plain")
    stream = sealed.PieceReader(iter([package(FILES)]))
    return plain, plain.add_package(stream, limits=PackageLimits())


def seal_into(store: Store, tmp_path: Path) -> tuple[str, str, sealed.KeyPair, bytes]:
    """Stores the sealed package: its CID, its content's CID, the key and the head."""
    plain, content = plain_package(tmp_path)
    key = sealed.new_key_pair()
    stored, head = sealed.add_sealed(store, plain.export_tar(content.cid), recipient=key.recipient)
    return stored.cid, content.cid, key, head


def open_all(
    store: Store, cid: str, content_cid: str, key: sealed.KeyPair, root: Path
) -> dict[str, bytes]:
    with sealed.opened(store, cid, secret=key.secret, content_cid=content_cid, root=root) as held:
        return {file.path: b"".join(held.open_file(file)) for file in held.files(content_cid)}


def left_open(root: Path) -> list[Path]:
    return sorted((root / "opened").iterdir()) if (root / "opened").exists() else []


def test_what_was_sealed_opens_to_the_same_package_and_is_gone(
    store: LocalStore, tmp_path: Path
) -> None:
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    assert [file.path for file in store.files(cid)] == [sealed.FILE_NAME]
    with sealed.opened(
        store, cid, secret=key.secret, content_cid=content_cid, root=tmp_path
    ) as held:
        assert held.root.stat().st_mode & 0o777 == 0o700
        assert held.root.parent.stat().st_mode & 0o777 == 0o700
        assert [file.path for file in held.files(content_cid)] == sorted(FILES)
    assert open_all(store, cid, content_cid, key, tmp_path) == FILES
    assert left_open(tmp_path) == []


def test_no_block_tells_anything_of_the_plaintext(store: LocalStore, tmp_path: Path) -> None:
    seal_into(store, tmp_path)
    blocks = [path.read_bytes() for path in (store.root / "blocks").glob("*/*/*")]
    assert len(blocks) >= 2
    assert [word for word in TELLING for block in blocks if word in block] == []


def test_neither_does_an_ipfs_node_see_it(kubo: KuboNode, tmp_path: Path) -> None:
    store = IpfsStore(kubo.api, root=tmp_path / "ipfs")
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    assert cid in kubo.pins
    assert [word for word in TELLING for block in kubo.blocks.values() if word in block] == []
    assert open_all(store, cid, content_cid, key, tmp_path) == FILES


def test_the_same_content_is_sealed_to_other_bytes_each_time(
    store: LocalStore, tmp_path: Path
) -> None:
    first = seal_into(store, tmp_path)
    second = seal_into(store, tmp_path)
    assert (first[0] != second[0], first[1] == second[1]) == (True, True)


def test_another_key_opens_nothing(store: LocalStore, tmp_path: Path) -> None:
    cid, content_cid, _, _ = seal_into(store, tmp_path)
    with pytest.raises(HashMismatch, match="does not open"):
        open_all(store, cid, content_cid, sealed.new_key_pair(), tmp_path)
    assert left_open(tmp_path) == []


def test_content_other_than_the_registered_is_refused(store: LocalStore, tmp_path: Path) -> None:
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    with pytest.raises(HashMismatch, match=f"opens to {content_cid}"):
        open_all(store, cid, cid, key, tmp_path)
    assert left_open(tmp_path) == []


def test_every_damaged_block_is_noticed(store: LocalStore, tmp_path: Path) -> None:
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    for path in sorted((store.root / "blocks").glob("*/*/*")):
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(HashMismatch):
            open_all(store, cid, content_cid, key, tmp_path)
        path.unlink()
        with pytest.raises(ContentNotFound):
            open_all(store, cid, content_cid, key, tmp_path)
        path.write_bytes(whole)
    assert open_all(store, cid, content_cid, key, tmp_path) == FILES
    assert left_open(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 20, 70_000, 1_000_000])
def test_a_file_that_was_cut_off_and_stored_anew_does_not_open(
    store: LocalStore, tmp_path: Path, cut: int
) -> None:
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    whole = b"".join(store.open(cid, sealed.FILE_NAME))
    shorter = tmp_path / "shorter"
    shorter.write_bytes(whole[:-cut])
    with shorter.open("rb") as file:
        other = sealed.add_sealed_file(store, file).cid
    with pytest.raises(HashMismatch):
        open_all(store, other, content_cid, key, tmp_path)
    assert left_open(tmp_path) == []


def test_a_store_that_does_not_answer_is_told_apart_from_damage(tmp_path: Path) -> None:
    with KuboNode() as kubo:
        store = IpfsStore(kubo.api, root=tmp_path / "ipfs", read_timeout_seconds=0.2)
        cid, content_cid, key, _ = seal_into(store, tmp_path)
    with pytest.raises(StoreUnavailable):
        open_all(store, cid, content_cid, key, tmp_path)
    assert left_open(tmp_path) == []


def test_a_reader_that_gives_up_leaves_nothing(store: LocalStore, tmp_path: Path) -> None:
    cid, content_cid, key, _ = seal_into(store, tmp_path)
    with (
        pytest.raises(KeyError),
        sealed.opened(store, cid, secret=key.secret, content_cid=content_cid, root=tmp_path),
    ):
        raise KeyError
    assert left_open(tmp_path) == []


_CHILD = """
import sys
from pathlib import Path
from inframind.storage import sealed
with sealed.private_directory(Path(sys.argv[1])) as directory:
    (directory / "plain.bin").write_bytes(b"secret")
    print("open", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_open_is_swept_and_the_living_keep_theirs(
    tmp_path: Path,
) -> None:
    def child() -> subprocess.Popen[str]:
        started = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert started.stdout is not None
        assert started.stdout.readline() == "open\n"
        return started

    with child() as lost, child() as living:
        assert (sealed.sweep_opened(tmp_path), len(left_open(tmp_path))) == (0, 2)
        lost.send_signal(signal.SIGKILL)
        lost.wait()
        assert sealed.sweep_opened(tmp_path) == 1
        (kept,) = left_open(tmp_path)
        assert (kept / "plain.bin").read_bytes() == b"secret"
        living.kill()
        living.wait()
        with sealed.private_directory(tmp_path) as directory:
            assert left_open(tmp_path) == [directory]
    assert left_open(tmp_path) == []


def test_a_large_package_is_never_held_in_memory(store: LocalStore, tmp_path: Path) -> None:
    size_bytes = 192 << 20

    def pieces() -> Iterator[bytes]:
        yield from write_tar(
            iter([("weights.bin", size_bytes, (bytes(1 << 20) for _ in range(size_bytes >> 20)))])
        )

    plain = LocalStore(tmp_path / "plain")
    content = plain.add_package(sealed.PieceReader(pieces()), limits=PackageLimits())
    key = sealed.new_key_pair()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stored, _ = sealed.add_sealed(store, plain.export_tar(content.cid), recipient=key.recipient)
    with sealed.opened(
        store, stored.cid, secret=key.secret, content_cid=content.cid, root=tmp_path
    ) as held:
        assert held.exists(content.cid)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 << 10


def test_the_same_head_gives_the_same_file_again(store: LocalStore, tmp_path: Path) -> None:
    cid, content_cid, key, head = seal_into(store, tmp_path)
    plain, _ = plain_package(tmp_path)
    store.delete(cid)
    with (tmp_path / "again").open("w+b") as file:
        reseal(plain.export_tar(content_cid), head=head, secret=key.secret, into=file)
        assert sealed.add_sealed_file(store, file, expected_cid=cid).cid == cid
    assert open_all(store, cid, content_cid, key, tmp_path) == FILES


def test_a_head_of_another_key_is_refused(store: LocalStore, tmp_path: Path) -> None:
    _, _, _, head = seal_into(store, tmp_path)
    with pytest.raises(HeadUnusable), (tmp_path / "again").open("w+b") as file:
        reseal(iter(()), head=head, secret=sealed.new_key_pair().secret, into=file)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 511, BLOCK_BYTES, 65_535, 65_536, 65_537]), max_size=5)
)
def test_resealing_agrees_with_age_whatever_the_length(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    key = sealed.new_key_pair()
    pieces = [os.urandom(size) for size in sizes]
    folder = tmp_path_factory.mktemp("reseal")
    with (folder / "first").open("w+b") as first, (folder / "again").open("w+b") as again:
        head = sealed.seal(iter(pieces), recipient=key.recipient, into=first)
        reseal(iter(pieces), head=head, secret=key.secret, into=again)
        first.seek(0)
        again.seek(0)
        assert again.read() == first.read()
