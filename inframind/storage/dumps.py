"""Single files by their own CID, kept for good: what anyone may fetch to check the books.

They lie in a store of their own below the packages' directory, so that no sweep of packages that
nobody registered can take one away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from django.conf import settings

from inframind.lib.cid import parse_cid
from inframind.storage.errors import ContentNotFound, HashMismatch
from inframind.storage.ipfs import IpfsStore
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits
from inframind.storage.sealed import PieceReader
from inframind.storage.tar import READ_BYTES, write_tar

_DIRECTORY: Final = "dumps"


def add(file: IO[bytes], *, name: str) -> str:
    """Keeps a file, read from its start, and returns its CID. The same bytes twice are one file.

    ``name`` is what it is called in the directory that pins it. Raises StoreUnavailable.
    """
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    tar = write_tar(iter([(name, size_bytes, iter(lambda: file.read(READ_BYTES), b""))]))
    limits = PackageLimits(max_bytes=max(size_bytes, 1), max_files=1)
    package = _store().add_package(PieceReader(tar), limits=limits)
    return package.files[0].cid


def read(cid: str) -> Iterator[bytes]:
    """Returns an iterator over a file's bytes in pieces of at most 1 MiB, each hashed first.

    Raises ContentNotFound at once; while iterating, HashMismatch before a damaged piece is handed
    out, ContentNotFound where one is gone; StoreUnavailable.
    """
    return _store().open_cid(cid)


def is_whole(cid: str) -> bool:
    """Says whether every byte is here and is what the CID names. Raises StoreUnavailable."""
    try:
        parse_cid(cid)
        for _ in read(cid):
            pass
    except (ValueError, ContentNotFound, HashMismatch):
        return False
    return True


def _store() -> LocalStore | IpfsStore:
    root = Path(settings.STORE_DIR) / _DIRECTORY
    if settings.IPFS_API:
        return IpfsStore(settings.IPFS_API, root=root)
    return LocalStore(root)
