"""What every store of packages can do, and which one this server uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from django.conf import settings

from inframind.storage.ipfs import IpfsStore
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits, StoredFile, StoredPackage
from inframind.storage.tar import Readable


class Store(Protocol):
    """Packages by CID. The same content has the same CID in every store."""

    def add_package(
        self, stream: Readable, *, limits: PackageLimits, expected_cid: str | None = None
    ) -> StoredPackage:
        """Stores the package of a tar stream (plain or gzip), wholly or not at all.

        Raises PackageRejected, CidMismatch, StoreUnavailable.
        """
        ...

    def files(self, cid: str) -> tuple[StoredFile, ...]:
        """Lists a package's files by path. Raises ContentNotFound, HashMismatch."""
        ...

    def open(self, cid: str, path: str) -> Iterator[bytes]:
        """Streams a file, every block hashed. Raises ContentNotFound, HashMismatch."""
        ...

    def open_file(self, file: StoredFile) -> Iterator[bytes]:
        """Streams a listed file without reading the listing again. Raises like open."""
        ...

    def read_bytes(self, cid: str, path: str, *, limit_bytes: int) -> bytes:
        """Reads a whole file. Raises ContentTooLarge, ContentNotFound, HashMismatch."""
        ...

    def export_tar(self, cid: str) -> Iterator[bytes]:
        """Streams a package as a tar whose bytes depend on its content alone. Raises like open."""
        ...

    def exists(self, cid: str) -> bool:
        """Says whether the whole package is kept."""
        ...

    def delete(self, cid: str) -> None:
        """Stops keeping a package; unknown ones are no error."""
        ...

    def kept(self) -> Iterator[tuple[str, float]]:
        """Yields the CID of every package kept and when it was last stored, in unix seconds."""
        ...

    def collect(self) -> int:
        """Removes what lost processes left behind; returns how many blocks that were."""
        ...


def get_store() -> Store:
    """Returns the configured store: IPFS when `IPFS_API` is set, else the embedded one."""
    root = Path(settings.STORE_DIR)
    if settings.IPFS_API:
        return IpfsStore(settings.IPFS_API, root=root)
    return LocalStore(root)
