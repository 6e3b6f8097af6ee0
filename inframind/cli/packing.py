"""A model's directory as one deterministic tar stream: same files, same bytes, same CID."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from inframind.cli import refusal
from inframind.lib.cid import FileBuilder, Node, directory_tree

MANIFEST: Final = "model.yaml"
IGNORE_FILE: Final = ".infraignore"
PIECE_BYTES: Final = 1024 * 1024
END_MARK: Final = bytes(2 * tarfile.BLOCKSIZE)
_NEVER: Final = (".git", "__pycache__", IGNORE_FILE)


@dataclass(frozen=True, slots=True)
class Member:
    """A file to pack: its slash-separated path in the package and where it lies.

    ``data`` takes the place of what lies there.
    """

    path: str
    source: Path
    size_bytes: int
    data: bytes | None = None


class Package:
    """The files of a directory. ``size_bytes`` is the exact length of ``stream()``."""

    def __init__(self, members: list[Member], left_out: list[str]) -> None:
        self.members = members
        self.left_out = left_out
        self.size_bytes = len(END_MARK) + sum(
            len(header(each.path, each.size_bytes)) + each.size_bytes + padding(each.size_bytes)
            for each in members
        )
        self._nodes: list[tuple[str, Node]] = []

    @property
    def cid(self) -> str:
        """The CID of what was streamed; known once ``stream()`` was read to its end."""
        return str(directory_tree(self._nodes, _discard).cid)

    def stream(self) -> Iterator[bytes]:
        """Yields the archive in pieces of at most 1 MiB; raises Refusal if a file changes."""
        self._nodes = []
        for member in self.members:
            yield header(member.path, member.size_bytes)
            builder = FileBuilder(_discard)
            for piece in _content(member):
                builder.feed(piece)
                yield piece
            yield bytes(padding(member.size_bytes))
            self._nodes.append((member.path, builder.finish()))
        yield END_MARK


def scan(root: Path, *, replaced: Mapping[str, bytes] | None = None) -> Package:
    """Lists what a directory publishes, sorted by path; ``replaced`` are files with other content.

    ``.git``, ``__pycache__``, dotfiles and what ``.infraignore`` names stay out; a line ``!name``
    there takes a dotfile in. Raises Refusal (exit 2) for links and other things that cannot travel.
    """
    rules = _rules(root / IGNORE_FILE)
    members: list[Member] = []
    left_out: list[str] = []
    _walk(root, "", rules, members, left_out)
    for path, data in (replaced or {}).items():
        members = [
            Member(path, each.source, len(data), data) if each.path == path else each
            for each in members
        ]
    members.sort(key=lambda member: member.path.encode())
    return Package(members, sorted(left_out))


def header(path: str, size_bytes: int) -> bytes:
    """The tar header of a plain file without owner, time or permission bits of this machine."""
    info = tarfile.TarInfo(path)
    info.size = size_bytes
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size_bytes: int) -> int:
    """How many zero bytes follow a file of that size in the archive."""
    return -size_bytes % tarfile.BLOCKSIZE


def _walk(
    directory: Path, prefix: str, rules: list[str], members: list[Member], left_out: list[str]
) -> None:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        raise refusal.usage(f"{directory} cannot be read: {error.strerror}.") from error
    for entry in entries:
        path = prefix + entry.name
        is_directory = entry.is_dir(follow_symlinks=False)
        if entry.name in _NEVER:
            continue
        if _ignored(path, entry.name, is_directory, rules):
            left_out.append(path + "/" * is_directory)
        elif is_directory:
            _walk(Path(entry.path), path + "/", rules, members, left_out)
        else:
            members.append(_member(entry, path))


def _member(entry: os.DirEntry[str], path: str) -> Member:
    status = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
        raise refusal.usage(
            f"{path} is {what}; a package holds plain files.",
            f"Put the file itself there, or name it in {IGNORE_FILE}.",
        )
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise refusal.usage(f"The file name {path!r} is not UTF-8.", "Rename the file.") from error
    return Member(path, Path(entry.path), status.st_size)


def _rules(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise refusal.usage(f"{path} cannot be read: {error}.") from error
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _ignored(path: str, name: str, is_directory: bool, rules: list[str]) -> bool:
    ignored = name.startswith(".")
    for rule in rules:
        pattern = rule.removeprefix("!")
        if pattern.endswith("/") and not is_directory:
            continue
        pattern = pattern.rstrip("/")
        # As in a .gitignore, a pattern without a slash means a name at any depth.
        subject = path if "/" in pattern else name
        if fnmatchcase(subject, pattern.removeprefix("/")):
            ignored = not rule.startswith("!")
    return ignored


def _content(member: Member) -> Iterator[bytes]:
    if member.data is not None:
        yield member.data
        return
    left_bytes = member.size_bytes
    try:
        with member.source.open("rb") as file:
            while piece := file.read(min(PIECE_BYTES, left_bytes + 1)):
                left_bytes -= len(piece)
                if left_bytes < 0:
                    break
                yield piece
    except OSError as error:
        raise refusal.failed(
            "file-unreadable", f"{member.source} cannot be read: {error.strerror}."
        ) from error
    if left_bytes:
        raise refusal.failed(
            "file-changed",
            f"{member.path} changed while it was being sent; nothing was registered.",
            "Let no program write to the directory meanwhile, then try again.",
            retry_safe=True,
        )


def _discard(cid: object, block: bytes) -> None:
    """Blocks are only hashed here; the server stores them."""
