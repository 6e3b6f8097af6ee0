"""Makes tar archives for the tests, with the standard library as the independent writer."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping


def entry(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member with any field of TarInfo set."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(
    members: Iterable[tuple[tarfile.TarInfo, bytes]], *, form: int = tarfile.PAX_FORMAT
) -> bytes:
    """A tar of the members, in the order given."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def package(files: Mapping[str, bytes], *, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of plain files."""
    return archive([entry(path, data) for path, data in files.items()], form=form)


def zipped(data: bytes) -> bytes:
    """The bytes as gzip."""
    return gzip.compress(data, 1)


class Trickle:
    """A stream that gives at most `step` bytes a read, as a slow network does."""

    def __init__(self, data: bytes, step: int) -> None:
        self._left = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._left.read(min(size, self._step))
