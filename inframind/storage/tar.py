"""A strict streaming reader of tar archives, and a deterministic writer.

The reader accepts plain files and directories in ustar, GNU and pax form, and nothing else. It
exists because an upload is hostile: no header may make it allocate, seek or skip unchecked.
"""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from inframind.storage.errors import PackageRejected

BLOCK_BYTES: Final = 512
READ_BYTES: Final = 64 * 1024
# Long enough for every allowed path, short enough to be held in memory.
_MAX_EXTENSION_BYTES: Final = 64 * 1024

_FILE_TYPES: Final = (b"0", b"\0", b"7")
_REFUSED_TYPES: Final = {
    b"1": ("link", "a hard link"),
    b"2": ("link", "a symbolic link"),
    b"3": ("device", "a character device"),
    b"4": ("device", "a block device"),
    b"6": ("device", "a named pipe"),
    b"S": ("sparse", "a sparse file"),
}


class Readable(Protocol):
    """Anything with `read(size)` that returns b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file or directory of the archive, with the path as the archive spells it."""

    path: str
    size_bytes: int
    is_directory: bool


class TarReader:
    """Iterates over the members of a plain or gzip-compressed tar stream.

    Between two members, `content()` yields the bytes of the last one; bytes left over are read on
    the next step. Raises PackageRejected, with codes `not_an_archive`, `truncated`, `corrupt`,
    `too_large`, `link`, `device`, `sparse`, `unsupported_member` and `trailing_data`.
    """

    def __init__(self, stream: Readable, *, limit_bytes: int) -> None:
        self._source = _Expanded(stream, limit_bytes)
        self._left_bytes = 0
        self._padding_bytes = 0

    def __iter__(self) -> Iterator[TarMember]:
        first = True
        while True:
            self._finish_member()
            overrides: dict[str, str] = {}
            header = self._header(first)
            first = False
            while header is not None and header.kind in (b"x", b"g", b"L", b"K"):
                overrides |= self._extension(header)
                header = self._header(first)
            if header is None:
                if overrides:
                    raise _truncated()
                return
            yield self._member(header, overrides)

    def content(self) -> Iterator[bytes]:
        """Yields the current member's bytes in pieces of at most 64 KiB."""
        while self._left_bytes:
            piece = self._source.read(min(READ_BYTES, self._left_bytes))
            if not piece:
                raise _truncated()
            self._left_bytes -= len(piece)
            yield piece

    def _finish_member(self) -> None:
        for _ in self.content():
            pass
        self._exactly(self._padding_bytes)
        self._padding_bytes = 0

    def _header(self, first: bool) -> "_Header | None":
        block = self._source.read_up_to(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            if first:
                raise _not_an_archive()
            raise _truncated()
        if not any(block):
            self._end_of_archive()
            return None
        header = _Header.parse(block, first=first)
        self._left_bytes = header.size_bytes
        self._padding_bytes = -header.size_bytes % BLOCK_BYTES
        return header

    def _end_of_archive(self) -> None:
        marker = self._exactly(BLOCK_BYTES)
        while not any(marker):
            marker = self._source.read(READ_BYTES)
            if not marker:
                return
        raise PackageRejected(
            "trailing_data",
            "The archive goes on after its end mark.",
            "Pack the directory again with tar.",
        )

    def _extension(self, header: "_Header") -> dict[str, str]:
        if header.size_bytes > _MAX_EXTENSION_BYTES:
            raise PackageRejected(
                "corrupt",
                f"A header of the archive has {header.size_bytes} bytes of extensions, at most "
                f"{_MAX_EXTENSION_BYTES} are read.",
                "Pack the directory again without extended attributes.",
                header.path,
            )
        body = self._exactly(header.size_bytes)
        self._left_bytes = 0
        self._finish_member()
        if header.kind == b"L":
            return {"path": _text(body.split(b"\0", 1)[0])}
        if header.kind == b"K":
            return {}
        records = _pax_records(body, header.path)
        if any(key.startswith("GNU.sparse") for key in records):
            raise _refused("sparse", "a sparse file", records.get("path", header.path))
        if header.kind == b"g":
            return {}
        return {key: value for key, value in records.items() if key in ("path", "size")}

    def _member(self, header: "_Header", overrides: dict[str, str]) -> TarMember:
        path = overrides.get("path", header.path)
        refused = _REFUSED_TYPES.get(header.kind)
        if refused is not None:
            raise _refused(*refused, path)
        if header.kind == b"5" or (header.kind in _FILE_TYPES and path.endswith("/")):
            if header.size_bytes:
                raise _corrupt("A directory in the archive has content.", path)
            return TarMember(path, 0, is_directory=True)
        if header.kind not in _FILE_TYPES:
            raise PackageRejected(
                "unsupported_member",
                f"The archive holds a member of type {header.kind!r}.",
                "Pack plain files and directories only.",
                path,
            )
        size_bytes = header.size_bytes
        if "size" in overrides:
            if not (overrides["size"].isascii() and overrides["size"].isdigit()):
                raise _corrupt("A size in the archive is not a number.", path)
            size_bytes = int(overrides["size"][:20])
            self._left_bytes = size_bytes
            self._padding_bytes = -size_bytes % BLOCK_BYTES
        return TarMember(path, size_bytes, is_directory=False)

    def _exactly(self, size: int) -> bytes:
        data = self._source.read_up_to(size)
        if len(data) < size:
            raise _truncated()
        return data


@dataclass(frozen=True, slots=True)
class _Header:
    path: str
    kind: bytes
    size_bytes: int

    @classmethod
    def parse(cls, block: bytes, *, first: bool) -> "_Header":
        stored = _number(block[148:156])
        signless = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
        # Some old writers summed signed characters.
        signed = signless - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
        if stored is None or stored not in (signless, signed):
            if first:
                raise _not_an_archive()
            raise _corrupt("A header of the archive fails its checksum.", None)
        name = block[:100].split(b"\0", 1)[0]
        if block[257:263] == b"ustar\0":
            prefix = block[345:500].split(b"\0", 1)[0]
            name = prefix + b"/" + name if prefix else name
        path = _text(name)
        size_bytes = _number(block[124:136])
        if size_bytes is None or size_bytes < 0:
            raise _corrupt("A size in the archive is not a number.", path)
        return cls(path, block[156:157], size_bytes)


class _Expanded:
    """The archive's bytes after gzip, if it is compressed; counts both sides against the limit."""

    def __init__(self, stream: Readable, limit_bytes: int) -> None:
        self._stream = stream
        self._limit_bytes = limit_bytes
        self._received_bytes = 0
        self._expanded_bytes = 0
        self._pending = b""
        while len(self._pending) < 2 and (piece := self._receive()):
            self._pending += piece
        if not self._pending:
            raise PackageRejected(
                "not_an_archive", "The upload is empty.", "Send a tar archive of the package."
            )
        compressed = self._pending[:2] == b"\x1f\x8b"
        self._inflater = zlib.decompressobj(wbits=31) if compressed else None

    def read(self, size: int) -> bytes:
        """Returns at most `size` bytes, which is at least one; b"" only at the end."""
        data = self._plain(size) if self._inflater is None else self._inflated(size)
        self._expanded_bytes += len(data)
        self._check(self._expanded_bytes)
        return data

    def read_up_to(self, size: int) -> bytes:
        """Returns exactly `size` bytes, or fewer only at the end."""
        data = b""
        while len(data) < size and (piece := self.read(size - len(data))):
            data += piece
        return data

    def _receive(self) -> bytes:
        piece = self._stream.read(READ_BYTES)
        self._received_bytes += len(piece)
        self._check(self._received_bytes)
        return piece

    def _check(self, count: int) -> None:
        if count > self._limit_bytes:
            raise too_large(self._limit_bytes)

    def _plain(self, size: int) -> bytes:
        data = self._pending or self._receive()
        self._pending = data[size:]
        return data[:size]

    def _inflated(self, size: int) -> bytes:
        while self._inflater is not None:
            try:
                data = self._inflater.decompress(self._pending, size)
            except zlib.error as error:
                raise _corrupt("The gzip stream is damaged.", None) from error
            self._pending = self._inflater.unconsumed_tail
            if data:
                return data
            if self._inflater.eof:
                self._pending = self._inflater.unused_data or self._receive()
                if not self._pending:
                    return b""
                self._inflater = zlib.decompressobj(wbits=31)
            elif not self._pending:
                self._pending = self._receive()
                if not self._pending:
                    raise _truncated()
        return b""


def write_tar(members: Iterator[tuple[str, int, Iterator[bytes]]]) -> Iterator[bytes]:
    """Yields a pax archive of (path, size in bytes, content) in the given order.

    Equal members give equal bytes: times are zero, modes 0644, owners empty. Raises ValueError
    when a content has another length than announced.
    """
    for path, size_bytes, content in members:
        info = tarfile.TarInfo(path)
        info.size = size_bytes
        info.mode = 0o644
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
        written_bytes = 0
        for piece in content:
            written_bytes += len(piece)
            yield piece
        if written_bytes != size_bytes:
            raise ValueError(f"{path} has {written_bytes} bytes, {size_bytes} were announced.")
        if padding_bytes := -size_bytes % BLOCK_BYTES:
            yield bytes(padding_bytes)
    yield bytes(2 * BLOCK_BYTES)


def too_large(limit_bytes: int) -> PackageRejected:
    """The rejection of an archive that unpacks to more than the limit."""
    return PackageRejected(
        "too_large",
        f"The package unpacks to more than {limit_bytes} bytes.",
        "Leave out what the model does not need, or ask for a larger quota.",
    )


def _number(field: bytes) -> int | None:
    """Reads an octal or base-256 header field; None when it is neither."""
    if field[0] & 0x80:
        # The sign bit of base-256 is the second highest; a negative size means damage.
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:]) if field[0] == 0x80 else None
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if all(byte in b"01234567" for byte in digits) else None


def _pax_records(body: bytes, path: str) -> dict[str, str]:
    records: dict[str, str] = {}
    offset = 0
    while offset < len(body):
        space = body.find(b" ", offset, offset + 8)
        length_text = body[offset:space] if space > 0 else b""
        end = offset + int(length_text) if length_text.isdigit() else 0
        record = body[space + 1 : end]
        key, equals, value = record[:-1].partition(b"=")
        if end > len(body) or record[-1:] != b"\n" or not equals:
            raise _corrupt("An extended header of the archive cannot be read.", path)
        if key in (b"path", b"size") or key.startswith(b"GNU.sparse"):
            records[_text(key)] = _text(value)
        offset = end
    return records


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise PackageRejected(
            "bad_name",
            "A name in the archive is not UTF-8.",
            "Rename the file, or pack the directory on a system that uses UTF-8.",
            name.decode(errors="replace"),
        ) from error


def _refused(code: str, what: str, path: str) -> PackageRejected:
    return PackageRejected(
        code,
        f"{path} is {what}.",
        "Put a plain file in its place: a package holds plain files and directories only.",
        path,
    )


def _corrupt(message: str, path: str | None) -> PackageRejected:
    return PackageRejected("corrupt", message, "Pack the directory again with tar.", path)


def _truncated() -> PackageRejected:
    return PackageRejected(
        "truncated", "The archive ends before its end mark.", "Send the whole archive again."
    )


def _not_an_archive() -> PackageRejected:
    return PackageRejected(
        "not_an_archive",
        "The upload is not a tar archive.",
        "Send the package as tar, plain or compressed with gzip.",
    )
