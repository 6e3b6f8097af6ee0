"""Packages on their way out and back."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inframind.cli.packing import END_MARK, Member, Package, header, padding, scan
from inframind.cli.refusal import EXIT_USAGE, Refusal
from inframind.cli.unpacking import IntoDirectory, IntoTar, Nowhere, unpack
from inframind.lib.cid import FileBuilder, directory_tree

NAMES = st.text("abcdé-_. ", min_size=1, max_size=120).filter(lambda name: name.strip(". ") != "")


def write(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def cid_of(files: dict[str, bytes]) -> str:
    nodes = []
    for name, data in files.items():
        builder = FileBuilder(lambda cid, block: None)
        builder.feed(data)
        nodes.append((name, builder.finish()))
    return str(directory_tree(nodes, lambda cid, block: None).cid)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=3000), min_size=1, max_size=6))
def test_a_package_has_its_promised_length_and_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = write(
        tmp_path_factory.mktemp("out"), {f"d/{name}": data for name, data in files.items()}
    )
    members = [Member(f"d/{name}", root / "d" / name, len(data)) for name, data in files.items()]
    package = Package(members, [])
    stream = b"".join(package.stream())
    back = tmp_path_factory.mktemp("back")
    unpacked = unpack(iter([stream]), IntoDirectory(back))
    assert len(stream) == package.size_bytes
    assert (
        unpacked.cid == package.cid == cid_of({f"d/{name}": data for name, data in files.items()})
    )
    assert {name: (back / "d" / name).read_bytes() for name in files} == files


def test_the_same_files_give_the_same_bytes_whatever_their_times_and_modes(tmp_path: Path) -> None:
    files = {"model.yaml": b"name: a", "z/w.bin": b"\0" * 700, "a.txt": b"x"}
    one, two = write(tmp_path / "1", files), write(tmp_path / "2", dict(reversed(files.items())))
    os.utime(two / "a.txt", (0, 0))
    (two / "a.txt").chmod(0o700)
    stream = b"".join(scan(one).stream())
    assert stream == b"".join(scan(two).stream())
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        assert archive.getnames() == ["a.txt", "model.yaml", "z/w.bin"]
        assert {member.mtime for member in archive} == {0}


def test_what_is_not_the_models_stays_out_and_is_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "model.yaml": b"",
            ".env": b"SECRET",
            ".keep/a": b"",
            ".git/config": b"",
            "src/__pycache__/a.pyc": b"",
            "src/a.py": b"",
            "notes/b.txt": b"",
            "deep/notes.txt": b"",
            "deep/x.log": b"",
            ".infraignore": b"# mine\nnotes/\n*.log\n!.keep\n",
        },
    )
    package = scan(tmp_path)
    assert [member.path for member in package.members] == [
        ".keep/a", "deep/notes.txt", "model.yaml", "src/a.py",
    ]  # fmt: skip
    assert package.left_out == [".env", "deep/x.log", "notes/"]


def test_a_link_cannot_be_published(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to("/etc/passwd")
    with pytest.raises(Refusal, match="weights is a symbolic link") as refused:
        scan(tmp_path)
    assert refused.value.exit_code == EXIT_USAGE


@pytest.mark.parametrize("data", [b"shrunk", b"grown and grown and grown"])
def test_a_file_that_changes_meanwhile_stops_the_stream(tmp_path: Path, data: bytes) -> None:
    package = scan(write(tmp_path, {"model.yaml": b"ten bytes."}))
    (tmp_path / "model.yaml").write_bytes(data)
    with pytest.raises(Refusal, match=r"model.yaml changed while it was being sent"):
        b"".join(package.stream())


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    "archive",
    [
        tar_of((info("../evil"), b"x")),
        tar_of((info("/evil"), b"x")),
        tar_of((info("a/../../evil"), b"x")),
        tar_of((info("a//b"), b"x")),
        tar_of((info("evil", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        tar_of((info("evil", tarfile.LNKTYPE, "model.yaml"), b"")),
        tar_of((info("evil", tarfile.CHRTYPE), b"")),
        tar_of((info("a"), b"1"), (info("a"), b"2")),
        tar_of((info("a"), b"1"), (info("a/b"), b"2")),
        tar_of((info("a"), b"1" * 5000))[:3000],
        b"<html>not a tar</html>" * 100,
        b"",
    ],
)
def test_a_hostile_or_cut_archive_writes_nothing_outside(tmp_path: Path, archive: bytes) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with pytest.raises(Refusal, match="Nothing was kept") as refused:
        unpack(iter([archive]), IntoDirectory(inside))
    assert refused.value.document["type"] == "/problems/package-refused"
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_a_header_that_claims_gigabytes_is_not_read_into_memory() -> None:
    huge = info("x", tarfile.XHDTYPE)
    huge.size = 8**11 - 1
    pieces_sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal pieces_sent
        yield huge.tobuf(tarfile.USTAR_FORMAT)
        while True:
            pieces_sent += 1
            yield bytes(65536)

    with pytest.raises(Refusal, match="a header of 8589934591 bytes"):
        unpack(endless(), Nowhere())
    assert pieces_sent <= 32


def test_an_exported_archive_is_the_one_that_was_sent(tmp_path: Path) -> None:
    sent = b"".join(scan(write(tmp_path, {"model.yaml": b"a: b", "w": b"\1" * 1025})).stream())
    out = io.BytesIO()
    sink = IntoTar(out)
    pieces = (sent[at : at + 100] for at in range(0, len(sent), 100))
    unpack(pieces, sink)
    sink.finish()
    assert out.getvalue() == sent


def test_headers_end_on_blocks() -> None:
    assert len(header("a" * 300, 5)) % 512 == 0
    assert (padding(0), padding(1), padding(512), len(END_MARK)) == (0, 511, 0, 1024)
