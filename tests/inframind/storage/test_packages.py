import contextlib
import io
import tarfile
import tracemalloc
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from inframind.storage.errors import PackageRejected
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits
from inframind.storage.tar import Readable

from .archives import Trickle, archive, entry, package, zipped

_LIMITS = PackageLimits(max_bytes=1024 * 1024)
_FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
_FILES = {"model.yaml": b"name: x", "w/a.bin": b"\0" * 700, "w/deeper/b.bin": b"1", "empty": b""}

_NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters="/\\"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 100)
_TREES = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=600), min_size=1
).filter(lambda files: _is_clean(list(files)))
_SHARED_STORE = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40
)


def _is_clean(paths: list[str]) -> bool:
    """No two names that fold to one, no file that is also a directory."""
    above = {"/".join(path.split("/")[:count]) for path in paths for count in range(1, 4)}
    folded = {
        unicodedata.normalize("NFC", unicodedata.normalize("NFC", p).casefold()) for p in above
    }
    return len(folded) == len(above) and not any(
        other.startswith(f"{path}/") for path in paths for other in paths
    )


def _everything(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file() and path.name != "lock"}


def _rejected(store: LocalStore, data: bytes | Readable, **limits: int) -> PackageRejected:
    """The rejection, after checking that it left nothing behind."""
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    before = _everything(store.root)
    with pytest.raises(PackageRejected) as caught:
        store.add_package(stream, limits=PackageLimits(**{"max_bytes": 1024 * 1024} | limits))
    assert _everything(store.root) == before
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("step", [1, 700, 1 << 20])
def test_every_form_of_one_content_is_one_cid(
    store: LocalStore, form: int, compress: bool, step: int
) -> None:
    plain = store.add_package(io.BytesIO(package(_FILES)), limits=_LIMITS)
    other = package(dict(reversed(_FILES.items())), form=form)
    data = zipped(other[:4000]) + zipped(other[4000:]) if compress else other
    assert store.add_package(Trickle(data, step), limits=_LIMITS) == plain
    assert [file.path for file in plain.files] == sorted(_FILES)
    assert plain.size_bytes == sum(map(len, _FILES.values()))


def test_times_modes_owners_spellings_and_empty_directories_leave_no_trace(
    store: LocalStore,
) -> None:
    plain = store.add_package(io.BytesIO(package({"a/b": b"1", "c": b"2"})), limits=_LIMITS)
    members = [
        entry("./", type=tarfile.DIRTYPE),
        entry("nothing/here/", type=tarfile.DIRTYPE, mode=0o700),
        entry("./c", b"2", mtime=1234567890.5, mode=0o777, uid=7, uname="me"),
        entry("a/", type=tarfile.DIRTYPE),
        entry("a/", type=tarfile.DIRTYPE),
        entry(".//a//./b", b"1", pax_headers={"comment": "hello", "SCHILY.xattr.user.x": "y"}),
    ]
    assert store.add_package(io.BytesIO(archive(members)), limits=_LIMITS) == plain


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_accented_names_survive_every_form_that_can_carry_them(
    store: LocalStore, form: int
) -> None:
    files = {f"{'d' * 200}/{'ü' * 60}": b"x", f"{'e' * 150}": b"y"}
    stored = store.add_package(io.BytesIO(package(files, form=form)), limits=_LIMITS)
    assert {file.path for file in stored.files} == set(files)


@pytest.mark.parametrize(
    ("code", "members"),
    [
        ("path_escape", [entry("../evil", b"x")]),
        ("path_escape", [entry("a/../../evil", b"x")]),
        ("path_escape", [entry("a/..", type=tarfile.DIRTYPE)]),
        ("absolute_path", [entry("/etc/passwd", b"x")]),
        ("absolute_path", [entry("//x", b"x")]),
        ("link", [entry("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")]),
        ("link", [entry("b", b"x"), entry("a", type=tarfile.LNKTYPE, linkname="b")]),
        ("link", [entry("a", type=tarfile.SYMTYPE, linkname="l" * 300)]),
        ("device", [entry("a", type=tarfile.CHRTYPE)]),
        ("device", [entry("a", type=tarfile.BLKTYPE)]),
        ("device", [entry("a", type=tarfile.FIFOTYPE)]),
        ("sparse", [entry("a", b"x", pax_headers={"GNU.sparse.major": "1"})]),
        ("unsupported_member", [entry("a", type=b"V")]),
        ("duplicate_member", [entry("a", b"1"), entry("a", b"1")]),
        ("duplicate_member", [entry("a", b"1"), entry("./a", b"2")]),
        ("duplicate_member", [entry("Read.me", b"1"), entry("read.ME", b"2")]),
        ("duplicate_member", [entry("\u00e9", b"1"), entry("e\u0301", b"2")]),
        ("duplicate_member", [entry("\u00c9", b"1"), entry("e\u0301", b"2")]),
        ("duplicate_member", [entry("D/a", b"1"), entry("d/b", b"2")]),
        ("duplicate_member", [entry("a", b"1"), entry("a/b", b"2")]),
        ("duplicate_member", [entry("a/b", b"1"), entry("a", b"2")]),
        ("duplicate_member", [entry("a", b"1"), entry("a/", type=tarfile.DIRTYPE)]),
        ("bad_name", [entry("a\\b", b"x")]),
        ("bad_name", [entry("a\nb", b"x")]),
        ("bad_name", [entry("gpj.\u202eexe", b"x")]),
        ("bad_name", [entry("\udcff", b"x")]),
        ("name_too_long", [entry("n" * 256, b"x")]),
        ("name_too_long", [entry("/".join(["n" * 250] * 5), b"x")]),
        ("too_deep", [entry("/".join("d" * 17), b"x")]),
        ("empty_package", []),
        ("empty_package", [entry("a/", type=tarfile.DIRTYPE)]),
        ("too_large", [entry("a", bytes(1024 * 1024 + 1))]),
        ("too_large", [entry("a", bytes(600_000)), entry("b", bytes(600_000))]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compress", [False, True])
def test_what_breaks_a_rule_is_refused_and_leaves_nothing(
    store: LocalStore, code: str, members: list[tuple[tarfile.TarInfo, bytes]], compress: bool
) -> None:
    data = archive([entry("model.yaml", b"name: x"), *members] if members else [], form=2)
    if code == "empty_package":
        data = archive(members)
    assert _rejected(store, zipped(data) if compress else data).code == code


def test_a_rejection_names_the_member(store: LocalStore) -> None:
    error = _rejected(store, archive([entry("a/../../evil", b"x")]))
    assert error.member == "a/../../evil"
    assert "'a/../../evil' leaves the package" in str(error)


def test_999_files_are_a_package_and_1000_are_not(store: LocalStore) -> None:
    files = {f"f{number}": b"" for number in range(1000)}
    assert _rejected(store, package(files)).code == "too_many_files"
    files.popitem()
    assert len(store.add_package(io.BytesIO(package(files)), limits=_LIMITS).files) == 999


@pytest.mark.parametrize(
    "data", [b"", b"x", b"not a tar" * 200, b"\x1f\x8bnot gzip", b"PK\3\4" * 300]
)
def test_what_is_no_archive_is_refused(store: LocalStore, data: bytes) -> None:
    assert _rejected(store, data).code in ("not_an_archive", "corrupt", "truncated")


def test_content_after_the_end_mark_is_refused(store: LocalStore) -> None:
    assert _rejected(store, package(_FILES) + package({"b": b"2"})).code == "trailing_data"


class _Endless:
    """A stream that never ends, and counts what was taken of it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._head = b""
        self.taken_bytes = 0

    def read(self, size: int, /) -> bytes:
        while not self._head:
            self._head = next(self._pieces)
        piece, self._head = self._head[:size], self._head[size:]
        self.taken_bytes += len(piece)
        return piece


def _gzip_of_zeros() -> Iterator[bytes]:
    deflater = zlib.compressobj(9, wbits=31)
    yield deflater.compress(package({"a": b"1"}))
    while True:
        yield deflater.compress(bytes(1 << 20))


def _zeros() -> Iterator[bytes]:
    yield package({"a": b"1"})
    while True:
        yield bytes(1 << 16)


def _empty_members() -> Iterator[bytes]:
    while True:
        yield zipped(b"") * 3000


@pytest.mark.parametrize("bomb", [_gzip_of_zeros, _zeros, _empty_members])
def test_a_bomb_is_refused_early_and_in_little_memory(
    store: LocalStore, bomb: Callable[[], Iterator[bytes]]
) -> None:
    stream = _Endless(bomb())
    limits = PackageLimits(max_bytes=1024 * 1024)
    tracemalloc.start()
    with pytest.raises(PackageRejected) as caught:
        store.add_package(stream, limits=limits)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "too_large"
    assert stream.taken_bytes < 20 * 1024 * 1024
    assert peak_bytes < 8 * 1024 * 1024
    assert _everything(store.root) == set()


def test_a_header_that_announces_gigabytes_of_extensions_is_refused_unread(
    store: LocalStore,
) -> None:
    for kind in (b"x", b"g", b"L", b"K"):
        header = tarfile.TarInfo("x")
        header.type = kind
        header.size = 4 * 1024**3
        assert _rejected(store, header.tobuf(tarfile.GNU_FORMAT) + bytes(4096)).code == "corrupt"


def test_a_large_package_streams_in_little_memory(store: LocalStore) -> None:
    data = package({"big": bytes(range(256)) * (16 * 4096)})
    stream = Trickle(data, 1 << 16)
    tracemalloc.start()
    stored = store.add_package(stream, limits=PackageLimits())
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert stored.size_bytes == 16 * 1024 * 1024
    assert peak_bytes < 6 * 1024 * 1024


@_SHARED_STORE
@given(_TREES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(1, 2000))
def test_in_out_and_in_again_is_one_cid(
    store: LocalStore, files: dict[str, bytes], form: int, step: int
) -> None:
    stored = store.add_package(Trickle(package(files, form=form), step), limits=_LIMITS)
    exported = b"".join(store.export_tar(stored.cid))
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        assert {name: tar.extractfile(name).read() for name in tar.getnames()} == files  # type: ignore[union-attr]
        assert [info.mtime for info in tar] == [0] * len(files)
    assert store.add_package(io.BytesIO(exported), limits=_LIMITS) == stored
    assert b"".join(store.export_tar(stored.cid)) == exported


@_SHARED_STORE
@given(st.data(), st.booleans())
def test_a_stream_cut_at_any_byte_stores_nothing(
    store: LocalStore, data: st.DataObject, compress: bool
) -> None:
    # Without the record padding every byte up to the last one matters.
    whole = package(_FILES).rstrip(b"\0")
    whole += bytes(-len(whole) % 512 + 1024)
    sent = zipped(whole) if compress else whole
    cut = data.draw(st.integers(0, len(sent) - 1))
    error = _rejected(store, sent[:cut])
    assert error.code in ("truncated", "not_an_archive")
    assert store.add_package(io.BytesIO(sent), limits=_LIMITS).cid
    store.delete(store.add_package(io.BytesIO(sent), limits=_LIMITS).cid)


@_SHARED_STORE
@given(st.data())
def test_damaged_archives_are_a_package_or_a_rejection_never_another_error(
    store: LocalStore, data: st.DataObject
) -> None:
    whole = bytearray(package(_FILES, form=data.draw(st.sampled_from(_FORMS))))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, 6000))] = data.draw(st.integers(0, 255))
    sent = zipped(bytes(whole)) if data.draw(st.booleans()) else bytes(whole)
    with contextlib.suppress(PackageRejected):
        store.delete(store.add_package(io.BytesIO(sent), limits=_LIMITS).cid)
    assert _everything(store.root) == set()


@_SHARED_STORE
@given(st.binary(min_size=512, max_size=2048))
@example(b"\0" * 1024)
def test_arbitrary_headers_with_a_right_checksum_never_break_the_reader(
    store: LocalStore, noise: bytes
) -> None:
    block = bytearray(noise[:512])
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with contextlib.suppress(PackageRejected):
        store.delete(store.add_package(io.BytesIO(bytes(block) + noise), limits=_LIMITS).cid)
    assert _everything(store.root) == set()
