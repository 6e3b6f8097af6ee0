"""Reading a version's package: one way, whether it is stored as published or sealed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from django.conf import settings

from inframind.storage import sealed
from inframind.storage.packages import StoredFile
from inframind.storage.store import get_store
from marketplace.catalog import packagekeys
from marketplace.catalog.models import Version


class Reader(Protocol):
    """The reading half of a store."""

    def files(self, cid: str) -> tuple[StoredFile, ...]: ...
    def open(self, cid: str, path: str) -> Iterator[bytes]: ...
    def open_file(self, file: StoredFile) -> Iterator[bytes]: ...
    def read_bytes(self, cid: str, path: str, *, limit_bytes: int) -> bytes: ...
    def export_tar(self, cid: str) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Opened:
    """A package that can be read. Every method raises as the store's of the same name does."""

    reader: Reader
    content_cid: str

    def files(self) -> tuple[StoredFile, ...]:
        """The files as published, sorted by path."""
        return self.reader.files(self.content_cid)

    def open(self, path: str) -> Iterator[bytes]:
        """Streams a file."""
        return self.reader.open(self.content_cid, path)

    def open_file(self, file: StoredFile) -> Iterator[bytes]:
        """Streams a listed file, without reading the listing again."""
        return self.reader.open_file(file)

    def read_bytes(self, path: str, *, limit_bytes: int) -> bytes:
        """A whole file."""
        return self.reader.read_bytes(self.content_cid, path, limit_bytes=limit_bytes)

    def export_tar(self) -> Iterator[bytes]:
        """The package as a tar whose bytes depend on its content alone."""
        return self.reader.export_tar(self.content_cid)


def opened(version: Version) -> contextlib.AbstractContextManager[Opened]:
    """The version's package, for the length of a ``with``. Raises ``StorageError``.

    A sealed one is decrypted whole and held against its content's CID before anything is read;
    nothing of it stays when the ``with`` ends.
    """
    if version.package_key is None:
        return contextlib.nullcontext(Opened(get_store(), version.cid))
    return _unsealed(version, packagekeys.secret_of(version.package_key))


class Export:
    """A version's package as a tar stream that keeps the package open until it is closed."""

    def __init__(self, version: Version) -> None:
        """Raises ``StorageError``, before anything is sent."""
        self._held = contextlib.ExitStack()
        try:
            package = self._held.enter_context(opened(version))
            self._pieces = package.export_tar()
        except BaseException:
            self._held.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets the package go; asked twice, it does nothing."""
        self._held.close()


@contextlib.contextmanager
def _unsealed(version: Version, secret: str) -> Iterator[Opened]:
    with sealed.opened(
        get_store(),
        version.cid,
        secret=secret,
        content_cid=version.content_cid,
        root=Path(settings.STORE_DIR),
    ) as held:
        yield Opened(held, version.content_cid)
