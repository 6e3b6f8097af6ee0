"""A downloaded package read as a stream: hashed as it comes, kept only if its CID is right."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol, cast

from inframind.cli import refusal
from inframind.cli.packing import END_MARK, header, padding
from inframind.lib.cid import FileBuilder, Node, directory_tree

Write = Callable[[bytes], int]

_PIECE_BYTES: Final = 1024 * 1024
_MAX_FILES: Final = 100_000
# A header that claims more is not a header: without a limit it would be read into memory whole.
_MAX_EXTENSION_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What a stream held: the CID computed here, and the number and bytes of its files."""

    cid: str
    files: int
    size_bytes: int


class Sink(Protocol):
    """Where files go: a context for each, whose value takes the file's bytes piece by piece."""

    def file(self, path: str, size_bytes: int) -> AbstractContextManager[Write]: ...


class Nowhere:
    """Keeps nothing: for a package that is only to be hashed."""

    @contextmanager
    def file(self, path: str, size_bytes: int) -> Iterator[Write]:
        yield len


class IntoDirectory:
    """Writes plain files below a directory that is empty and ours alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def file(self, path: str, size_bytes: int) -> Iterator[Write]:
        target = self._root.joinpath(*path.split("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            yield file.write


class IntoTar:
    """Writes the archive anew, in the form in which ``infra register`` sends it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @contextmanager
    def file(self, path: str, size_bytes: int) -> Iterator[Write]:
        self._file.write(header(path, size_bytes))
        yield self._file.write
        self._file.write(bytes(padding(size_bytes)))

    def finish(self) -> None:
        """Writes the end mark."""
        self._file.write(END_MARK)


def unpack(pieces: Iterator[bytes], sink: Sink) -> Unpacked:
    """Reads a tar stream into a sink, one piece at a time, and computes its CID.

    Raises Refusal for anything but plain files and directories at paths inside the package, and for
    a stream that is cut off.
    """
    nodes: list[tuple[str, Node]] = []
    seen: set[str] = set()
    # In stream mode tarfile needs nothing of a file but read().
    source_stream = cast("IO[bytes]", _Pieces(pieces))
    try:
        with tarfile.open(
            fileobj=source_stream, mode="r|", bufsize=_PIECE_BYTES, tarinfo=_Member
        ) as archive:
            for member in archive:
                path = _checked(member, seen)
                source = archive.extractfile(member)
                if source is None:
                    continue
                builder = FileBuilder(_discard)
                with sink.file(path, member.size) as write:
                    while piece := source.read(_PIECE_BYTES):
                        builder.feed(piece)
                        write(piece)
                nodes.append((path, builder.finish()))
        for _ in pieces:
            pass
        root = directory_tree(nodes, _discard)
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _unsafe(f"The download is not a whole package: {error}.") from error
    except FileExistsError as error:
        raise _unsafe(f"The package holds {error.filename} twice.") from error
    except NotADirectoryError as error:
        raise _unsafe(f"In the package, {error.filename} is a file and a directory.") from error
    return Unpacked(str(root.cid), len(nodes), root.size_bytes)


def require_cid(actual: str, expected: str, what: str) -> None:
    """Raises Refusal when what came is not what its CID names."""
    if actual != expected:
        raise refusal.failed(
            "cid-mismatch",
            f"What the server sent as {what} hashes to {actual}, not to {expected}. "
            "Nothing was kept.",
            "Do not use it. Try again; if it stays, tell the server's operator.",
            retry_safe=True,
            expected_cid=expected,
            actual_cid=actual,
        )


@contextmanager
def directory_in_the_making(target: Path) -> Iterator[Path]:
    """An empty directory beside the target that becomes it on success and vanishes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield making
        making.chmod(0o755)
        if target.is_dir():
            shutil.rmtree(target)
        making.rename(target)
    finally:
        shutil.rmtree(making, ignore_errors=True)


@contextmanager
def file_in_the_making(target: Path) -> Iterator[IO[bytes]]:
    """A file beside the target that becomes it on success and vanishes otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        prefix=f".{target.name}.", dir=target.parent, delete=False
    ) as file:
        making = Path(file.name)
        try:
            yield file
            file.flush()
            making.chmod(0o644)
            making.replace(target)
        finally:
            making.unlink(missing_ok=True)


class _Member(tarfile.TarInfo):
    """A header whose extensions are bounded before they are read."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extension = self.type in (
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if extension and self.size > _MAX_EXTENSION_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


class _Pieces:
    """A readable over an iterator of bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._left = piece
        data, self._left = self._left[:size], self._left[size:]
        return data


def _checked(member: tarfile.TarInfo, seen: set[str]) -> str:
    path = member.name.removeprefix("./") if member.isfile() else member.name
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise _unsafe(f"The package holds {path!r}, which is neither a file nor a directory.")
    if member.isdir():
        return path
    parts = path.split("/")
    if "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise _unsafe(f"The package holds a file at {path!r}, outside of itself.")
    if path in seen:
        raise _unsafe(f"The package holds {path!r} twice.")
    seen.add(path)
    if len(seen) > _MAX_FILES:
        raise _unsafe(f"The package holds more than {_MAX_FILES} files.")
    return path


def _unsafe(detail: str) -> refusal.Refusal:
    return refusal.failed(
        "package-refused",
        f"{detail} Nothing was kept.",
        "Try again; if it stays, tell the server's operator.",
        retry_safe=True,
    )


def _discard(cid: object, block: bytes) -> None:
    """Blocks are only hashed here."""
