"""Reading packages out of blocks, where every block is hashed before its bytes are used."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from inframind.lib.cid import DAG_PB, RAW, Cid, parse_cid
from inframind.lib.dagpb import Link, UnixFs, UnixFsType, decode_node, decode_unixfs
from inframind.storage.errors import ContentNotFound, ContentTooLarge, HashMismatch
from inframind.storage.packages import MAX_DEPTH, MAX_FILES, StoredFile
from inframind.storage.tar import write_tar

# A file of 2 GiB in chunks of 1 MiB needs two levels; more is a graph made to exhaust a reader.
_MAX_FILE_LEVELS: Final = 4


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    cid: Cid
    size_bytes: int


class BlockReader(ABC):
    """The reading half of a store, over blocks that a subclass brings and nobody trusts."""

    @abstractmethod
    def load_block(self, cid: Cid) -> bytes:
        """Returns the bytes kept under a CID, unchecked.

        Raises ContentNotFound when there are none, StoreUnavailable when the store is down.
        """

    def files(self, cid: str) -> tuple[StoredFile, ...]:
        """Returns the files of a package, sorted by path.

        Raises ContentNotFound when the package is not here, HashMismatch when a block is damaged.
        """
        return tuple(
            StoredFile(file.path, str(file.cid), file.size_bytes) for file in self._files(cid)
        )

    def open(self, cid: str, path: str) -> Iterator[bytes]:
        """Returns an iterator over a file's bytes in pieces of at most 1 MiB.

        Raises ContentNotFound at once; while iterating, HashMismatch before a damaged block's
        bytes are handed out.
        """
        return self._content(self._find(cid, path))

    def open_file(self, file: StoredFile) -> Iterator[bytes]:
        """Returns an iterator over a listed file's bytes, without reading the package's listing.

        Raises like `open` while iterating.
        """
        return self._content(_File(file.path, parse_cid(file.cid), file.size_bytes))

    def open_cid(self, cid: str) -> Iterator[bytes]:
        """Returns an iterator over the bytes of the file that this very CID names.

        Raises ContentNotFound when its root is not here, HashMismatch when that is damaged or no
        file; while iterating like `open`.
        """
        try:
            root = parse_cid(cid)
        except ValueError as error:
            raise ContentNotFound(str(error)) from error
        if root.codec == RAW:
            return iter((self._block(root),))
        record = self._node(root)[1]
        if record.type is not UnixFsType.FILE or record.file_size_bytes is None:
            raise HashMismatch(cid, "it is no file")
        return self._content(_File(cid, root, record.file_size_bytes))

    def read_bytes(self, cid: str, path: str, *, limit_bytes: int) -> bytes:
        """Returns a whole file; raises ContentTooLarge past the limit, else like `open`."""
        file = self._find(cid, path)
        if file.size_bytes > limit_bytes:
            raise ContentTooLarge(path, file.size_bytes, limit_bytes)
        return b"".join(self._content(file))

    def export_tar(self, cid: str) -> Iterator[bytes]:
        """Returns the package as a tar stream; equal packages give equal bytes.

        Raises like `files` at once, like `open` while iterating.
        """
        files = self._files(cid)
        return write_tar((file.path, file.size_bytes, self._content(file)) for file in files)

    def _block(self, cid: Cid) -> bytes:
        block = self.load_block(cid)
        if not cid.matches(block):
            raise HashMismatch(str(cid))
        return block

    def _node(self, cid: Cid) -> tuple[tuple[Link, ...], UnixFs]:
        block = self._block(cid)
        try:
            links, data = decode_node(block)
            return links, decode_unixfs(data)
        except ValueError as error:
            raise HashMismatch(str(cid), f"it is no UnixFS node ({error})") from error

    def _files(self, cid: str) -> list[_File]:
        try:
            root = parse_cid(cid)
        except ValueError as error:
            raise ContentNotFound(str(error)) from error
        found: list[_File] = []
        self._walk(root, "", found, depth=0)
        return sorted(found, key=lambda file: file.path.encode())

    def _find(self, cid: str, path: str) -> _File:
        for file in self._files(cid):
            if file.path == path:
                return file
        raise ContentNotFound(f"The package {cid} has no file {path!r}.")

    def _walk(self, cid: Cid, prefix: str, found: list[_File], *, depth: int) -> None:
        links, record = self._node(cid) if cid.codec == DAG_PB else ((), UnixFs(UnixFsType.RAW))
        if record.type is not UnixFsType.DIRECTORY:
            raise HashMismatch(str(cid), "a package is a plain UnixFS directory, and this is not")
        for link in links:
            if link.name in ("", ".", "..") or "/" in link.name or "\0" in link.name:
                raise HashMismatch(str(cid), f"it lists the impossible name {link.name!r}")
            target = _target(cid, link)
            path = prefix + link.name
            if target.codec == RAW:
                found.append(_File(path, target, link.tsize))
            else:
                record = self._node(target)[1]
                if record.type is UnixFsType.DIRECTORY and depth + 1 < MAX_DEPTH:
                    self._walk(target, f"{path}/", found, depth=depth + 1)
                elif record.type is UnixFsType.FILE and record.file_size_bytes is not None:
                    found.append(_File(path, target, record.file_size_bytes))
                else:
                    raise HashMismatch(str(target), f"{path} is neither a file nor a directory")
            if len(found) > MAX_FILES:
                raise HashMismatch(str(cid), f"it holds more than {MAX_FILES} files")

    def _content(self, file: _File) -> Iterator[bytes]:
        left_bytes = file.size_bytes
        for piece in self._leaves(file.cid, file.size_bytes, level=0):
            left_bytes -= len(piece)
            yield piece
        if left_bytes:
            raise HashMismatch(str(file.cid), "its length is not the one that is listed")

    def _leaves(self, cid: Cid, size_bytes: int, *, level: int) -> Iterator[bytes]:
        if cid.codec == RAW:
            block = self._block(cid)
            if len(block) != size_bytes:
                raise HashMismatch(str(cid), "its length is not the one that is listed")
            yield block
            return
        links, record = self._node(cid)
        if (
            record.type not in (UnixFsType.FILE, UnixFsType.RAW)
            or len(record.block_sizes) != len(links)
            or len(record.data) + sum(record.block_sizes) != size_bytes
            or level == _MAX_FILE_LEVELS
        ):
            raise HashMismatch(str(cid), "its parts do not add up to a file")
        if record.data:
            yield record.data
        for link, part_bytes in zip(links, record.block_sizes, strict=True):
            yield from self._leaves(_target(cid, link), part_bytes, level=level + 1)


def _target(parent: Cid, link: Link) -> Cid:
    try:
        return Cid.from_bytes(link.cid)
    except ValueError as error:
        raise HashMismatch(str(parent), f"it links to something else ({error})") from error
