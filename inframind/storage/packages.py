"""The rules of a package: which archives become one, and the same CID for the same content."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from inframind.lib.cid import Emit, FileBuilder, Node, directory_tree, parse_cid
from inframind.storage.errors import CidMismatch, PackageRejected
from inframind.storage.tar import Readable, TarMember, TarReader, too_large

MAX_FILES: Final = 999
MAX_DEPTH: Final = 16
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 1024
MAX_PACKAGE_BYTES: Final = 2 * 1024**3

# Headers and extensions of the archive itself, on top of the content it may unpack to.
_OVERHEAD_BYTES_PER_FILE: Final = 8 * 1024
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class PackageLimits:
    """How large a package may be: unpacked bytes, files, and path components above a file."""

    max_bytes: int = MAX_PACKAGE_BYTES
    max_files: int = MAX_FILES
    max_depth: int = MAX_DEPTH


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a package: slash-separated path, CID text, content bytes."""

    path: str
    cid: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """A package in the store: root CID text, sum of the file sizes, files sorted by path."""

    cid: str
    size_bytes: int
    files: tuple[StoredFile, ...]


@dataclass(slots=True)
class _Paths:
    """The paths seen so far, as file systems that fold case or accents see them."""

    files: set[str] = field(default_factory=set)
    directories: set[str] = field(default_factory=set)
    spelling: dict[str, str] = field(default_factory=dict)

    def claim(self, path: str, *, is_directory: bool) -> None:
        parts = path.split("/")
        parents = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for above in (*parents, path):
            key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", above).casefold())
            known = self.spelling.setdefault(key, above)
            if known != above:
                raise PackageRejected(
                    "duplicate_member",
                    f"{above!r} and {known!r} are one name where case or accents are not told "
                    "apart.",
                    "Rename one of them.",
                    path,
                )
        clash = next((above for above in parents if above in self.files), None)
        if clash is None and path in (self.files if is_directory else self.directories):
            clash = path
        if clash is not None:
            raise PackageRejected(
                "duplicate_member",
                f"{clash!r} is both a file and a directory.",
                "Rename one of them.",
                path,
            )
        if not is_directory and path in self.files:
            raise PackageRejected(
                "duplicate_member",
                f"{path!r} is in the archive twice.",
                "Pack the directory again into a new archive.",
                path,
            )
        (self.directories if is_directory else self.files).add(path)
        self.directories.update(parents)


def read_package(
    stream: Readable,
    *,
    limits: PackageLimits,
    emit: Emit,
    copy: Callable[[str], Callable[[bytes], object]] | None = None,
) -> StoredPackage:
    """Reads a tar stream once, emits every block of its package and returns the package.

    Only the files' paths and bytes count: times, modes, owners, order and empty directories leave
    no trace in the CID. `copy(path)` is asked for a writer that receives the same bytes, for a
    store that also wants the files. Raises PackageRejected; what was emitted by then is the
    caller's to throw away.
    """
    overhead_bytes = (limits.max_files + 16) * _OVERHEAD_BYTES_PER_FILE
    reader = TarReader(stream, limit_bytes=limits.max_bytes + overhead_bytes)
    paths = _Paths()
    nodes: list[tuple[str, Node]] = []
    total_bytes = 0
    for member in reader:
        path = checked_path(member, limits)
        if path is None:
            continue
        paths.claim(path, is_directory=member.is_directory)
        if member.is_directory:
            continue
        total_bytes += member.size_bytes
        if total_bytes > limits.max_bytes:
            raise too_large(limits.max_bytes)
        if len(nodes) == limits.max_files:
            raise PackageRejected(
                "too_many_files",
                f"The package has more than {limits.max_files} files.",
                "Pack many small files into one, or leave out what the model does not need.",
                path,
            )
        builder = FileBuilder(emit)
        write = copy(path) if copy is not None else None
        for piece in reader.content():
            builder.feed(piece)
            if write is not None:
                write(piece)
        nodes.append((path, builder.finish()))
    if not nodes:
        raise PackageRejected(
            "empty_package",
            "The archive holds no file.",
            "Pack the directory that holds model.yaml.",
        )
    try:
        root = directory_tree(nodes, emit)
    except ValueError as error:
        raise PackageRejected(
            "directory_too_large", str(error), "Spread the files over several directories."
        ) from error
    files = tuple(
        StoredFile(path, str(node.cid), node.size_bytes)
        for path, node in sorted(nodes, key=lambda item: item[0].encode())
    )
    return StoredPackage(str(root.cid), total_bytes, files)


def require_cid(package: StoredPackage, expected_cid: str | None) -> None:
    """Raises CidMismatch when a CID is expected and the package has another."""
    if expected_cid is not None and parse_cid(expected_cid) != parse_cid(package.cid):
        raise CidMismatch(expected_cid, package.cid)


def checked_path(member: TarMember, limits: PackageLimits) -> str | None:
    """Returns the member's path without `.` parts, None for the root itself.

    Raises PackageRejected for paths that leave the package or that not every system can hold.
    """
    spelled = member.path
    if spelled.startswith("/"):
        raise _bad("absolute_path", "is an absolute path", "Pack relative paths.", spelled)
    parts = [part for part in spelled.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _bad(
            "path_escape",
            "leaves the package through '..'",
            "Pack from inside the directory.",
            spelled,
        )
    if not parts:
        if member.is_directory:
            return None
        raise _bad("bad_name", "is not a file name", "Give the file a name.", spelled)
    if "\\" in spelled or any(
        unicodedata.category(letter) in _UNSEEN_CATEGORIES for letter in spelled
    ):
        raise _bad(
            "bad_name",
            "has a backslash or a character that cannot be seen",
            "Rename the file.",
            spelled,
        )
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise _bad(
            "name_too_long", f"has a name over {MAX_NAME_BYTES} bytes", "Shorten it.", spelled
        )
    path = "/".join(parts)
    if len(path.encode()) > MAX_PATH_BYTES:
        raise _bad(
            "name_too_long", f"is longer than {MAX_PATH_BYTES} bytes", "Shorten it.", spelled
        )
    if len(parts) > limits.max_depth:
        raise _bad(
            "too_deep", f"lies deeper than {limits.max_depth} levels", "Flatten the tree.", spelled
        )
    return path


def _bad(code: str, what: str, remedy: str, path: str) -> PackageRejected:
    shown = path if len(path) <= 80 else f"{path[:80]}…"
    return PackageRejected(code, f"{shown!r} {what}.", remedy, path[:MAX_PATH_BYTES])
