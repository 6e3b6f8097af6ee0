"""The embedded store: blocks as files on disk, named by their CID.

Layout under the root: `blocks/ab/cd/<cid>`, `packages/<root cid>` (a mark that the package is
whole and kept, listing its blocks), `staging/` (uploads under way), `lock`.
"""

import contextlib
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inframind.lib.cid import Cid, parse_cid
from inframind.storage.dag import BlockReader
from inframind.storage.errors import ContentNotFound
from inframind.storage.packages import (
    PackageLimits,
    StoredPackage,
    read_package,
    require_cid,
)
from inframind.storage.tar import Readable

_ABANDONED_SECONDS: Final = 24 * 3600


class LocalStore(BlockReader):
    """Packages in a directory of this machine; safe for many threads and processes at once.

    `durable` makes what is stored survive a loss of power, which a copy for a moment need not.
    """

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root
        self._durable = durable
        self._blocks = root / "blocks"
        self._packages = root / "packages"
        self._staging = root / "staging"
        for directory in (self._blocks, self._packages, self._staging):
            directory.mkdir(parents=True, exist_ok=True)

    def add_package(
        self, stream: Readable, *, limits: PackageLimits, expected_cid: str | None = None
    ) -> StoredPackage:
        """Stores the package of a tar stream, wholly or not at all.

        Raises PackageRejected for a bad archive, CidMismatch when `expected_cid` is given and is
        not the content's.
        """
        with staging_directory(self._staging) as staged:

            def emit(cid: Cid, block: bytes) -> None:
                target = staged / str(cid)
                if not target.exists():
                    self._write(target, block)

            package = read_package(stream, limits=limits, emit=emit)
            require_cid(package, expected_cid)
            self._commit(staged, package.cid)
        return package

    def exists(self, cid: str) -> bool:
        """Says whether the whole package is kept here."""
        try:
            return self._mark(cid).is_file()
        except ContentNotFound:
            return False

    def delete(self, cid: str) -> None:
        """Forgets a package and the blocks that no other uses; unknown ones are no error."""
        with self._locked():
            if not self.exists(cid):
                return
            mark = self._mark(cid)
            gone = set(mark.read_text().split())
            mark.unlink()
            for block in gone - self._listed():
                self._path(parse_cid(block)).unlink(missing_ok=True)

    def kept(self) -> Iterator[tuple[str, float]]:
        """Yields the CID of each package and when it was last stored, in unix seconds."""
        for mark in self._packages.iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield mark.name, mark.stat().st_mtime

    def collect(self) -> int:
        """Deletes blocks that a lost process left without a package; returns their number."""
        sweep_staging(self._staging)
        listed = self._listed()
        loose = [path for path in self._blocks.glob("*/*/*") if path.name not in listed]
        with self._locked():
            # Read again where nothing can be committed: a package may have come for them since.
            listed = self._listed()
            gone = [path for path in loose if path.name not in listed]
            for path in gone:
                path.unlink(missing_ok=True)
        return len(gone)

    def load_block(self, cid: Cid) -> bytes:
        """Returns the bytes of a block file, unchecked; raises ContentNotFound."""
        try:
            return self._path(cid).read_bytes()
        except FileNotFoundError as error:
            raise ContentNotFound(f"The store holds nothing under {cid}.") from error

    def _commit(self, staged: Path, cid: str) -> None:
        """Moves staged blocks to their places, the mark last; undoes what it did on failure."""
        names = sorted(block.name for block in staged.iterdir())
        mark = staged / "mark"
        self._write(mark, "\n".join(names).encode())
        created: list[Path] = []
        touched: set[Path] = set()
        with self._locked():
            try:
                for name in names:
                    target = self._path(parse_cid(name))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if not target.exists():
                        created.append(target)
                    # A block already there is replaced too: this repairs a damaged one.
                    (staged / name).replace(target)
                    touched.update((target.parent, target.parent.parent))
                self._sync(*touched, self._blocks)
                mark.replace(self._packages / cid)
                self._sync(self._packages)
            except BaseException:
                for target in created:
                    target.unlink(missing_ok=True)
                raise

    def _write(self, path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            if self._durable:
                os.fsync(file.fileno())

    def _sync(self, *directories: Path) -> None:
        for path in directories if self._durable else ():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _listed(self) -> set[str]:
        """The blocks of every kept package."""
        found: set[str] = set()
        for mark in self._packages.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.update(mark.read_text().split())
        return found

    def _path(self, cid: Cid) -> Path:
        shard = cid.digest.hex()
        return self._blocks / shard[:2] / shard[2:4] / str(cid)

    def _mark(self, cid: str) -> Path:
        try:
            return self._packages / str(parse_cid(cid))
        except ValueError as error:
            raise ContentNotFound(str(error)) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Lets one commit or deletion at a time touch shared blocks, across processes."""
        with (self.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def staging_directory(parent: Path) -> Iterator[Path]:
    """Gives an empty directory that is gone afterwards; also sweeps those of dead processes."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep_staging(parent)
    directory = parent / uuid.uuid4().hex
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def sweep_staging(parent: Path) -> None:
    """Removes the staging directories that dead processes left a day ago or earlier."""
    for abandoned in parent.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if time.time() - abandoned.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(abandoned, ignore_errors=True)
