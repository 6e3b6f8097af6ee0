"""Packages that only the holder of a key can read: their tar, encrypted with age, in one file.

A sealed package is an ordinary package of the one file `package.tar.age`, so its blocks tell a
reader its size and nothing else. It is opened into a directory of the process that opens it.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pyrage
from pyrage import x25519

from inframind.storage.errors import HashMismatch, PackageRejected, StorageError
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits, StoredPackage
from inframind.storage.store import Store
from inframind.storage.tar import READ_BYTES, write_tar

FILE_NAME: Final = "package.tar.age"
# What is opened was within the limits of its time when it was sealed.
_ANY_SIZE: Final = PackageLimits(max_bytes=1 << 50)
_NONCE_BYTES: Final = 16
_HEADER_MAX_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An age X25519 identity: `AGE-SECRET-KEY-1…` and `age1…`."""

    secret: str
    recipient: str


def new_key_pair() -> KeyPair:
    """Returns a fresh identity."""
    identity = x25519.Identity.generate()
    return KeyPair(str(identity), str(identity.to_public()))


def seal(pieces: Iterator[bytes], *, recipient: str, into: IO[bytes]) -> bytes:
    """Encrypts a stream for a recipient and returns the head of the result.

    The head (age's header and the payload's nonce) is all that differs between two seals of the
    same content; it is no secret. Raises what `pieces` raises.
    """
    reader = PieceReader(pieces)
    with _age_errors(reader):
        pyrage.encrypt_io(reader, into, [x25519.Recipient.from_str(recipient)])
    into.seek(0)
    start = into.read(_HEADER_MAX_BYTES)
    mac_line = start.index(b"\n--- ") + 1
    return start[: start.index(b"\n", mac_line) + 1 + _NONCE_BYTES]


def add_sealed(
    store: Store, pieces: Iterator[bytes], *, recipient: str
) -> tuple[StoredPackage, bytes]:
    """Seals a package's tar, stores the result and returns it with its head.

    Raises what `pieces` raises, StoreUnavailable.
    """
    with tempfile.TemporaryFile() as file:
        head = seal(pieces, recipient=recipient, into=file)
        return add_sealed_file(store, file), head


def add_sealed_file(
    store: Store, file: IO[bytes], *, expected_cid: str | None = None
) -> StoredPackage:
    """Stores an encrypted file as a sealed package. Raises CidMismatch, StoreUnavailable."""
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    tar = write_tar(iter([(FILE_NAME, size_bytes, iter(lambda: file.read(READ_BYTES), b""))]))
    limits = PackageLimits(max_bytes=max(size_bytes, 1), max_files=1)
    return store.add_package(PieceReader(tar), limits=limits, expected_cid=expected_cid)


@contextlib.contextmanager
def opened(
    store: Store, cid: str, *, secret: str, content_cid: str, root: Path
) -> Iterator[LocalStore]:
    """Opens a sealed package into a store of its own, which is gone afterwards.

    The package lies there under `content_cid`. Raises ContentNotFound and StoreUnavailable of the
    store, HashMismatch when a block is damaged, the key does not fit, or the content is another.
    """
    identity = x25519.Identity.from_str(secret)
    with private_directory(root) as directory:
        held = LocalStore(directory, durable=False)
        source = PieceReader(store.open(cid, FILE_NAME))
        with _decrypted(source, identity, cid) as tar:
            package = held.add_package(tar, limits=_ANY_SIZE)
        if package.cid != content_cid:
            raise HashMismatch(cid, f"it opens to {package.cid}, not to {content_cid}")
        yield held


@contextlib.contextmanager
def private_directory(root: Path) -> Iterator[Path]:
    """Gives an empty directory below `root/opened` for this user alone, gone afterwards.

    Those that killed processes left are removed at the same time.
    """
    parent = root / "opened"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = parent / uuid.uuid4().hex
    sweep_opened(root)
    with _locked(parent):
        directory.mkdir(mode=0o700)
        # Held while the directory is in use, and let go by the system when the process ends.
        lock = os.open(directory, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)


def sweep_opened(root: Path) -> int:
    """Removes what killed processes left opened; returns how many packages that were."""
    parent = root / "opened"
    if not parent.is_dir():
        return 0
    swept = 0
    with _locked(parent):
        for directory in parent.iterdir():
            try:
                descriptor = os.open(directory, os.O_RDONLY)
            except FileNotFoundError:
                continue  # its process has just finished with it
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                shutil.rmtree(directory, ignore_errors=True)
                swept += 1
            finally:
                os.close(descriptor)
    return swept


class PieceReader:
    """A stream with `read` over an iterator of pieces; `failure` is what the iterator raised."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.failure: Exception | None = None

    def read(self, size: int, /) -> bytes:
        while not self._rest:
            try:
                piece = next(self._pieces, None)
            except Exception as error:
                self.failure = error
                raise
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


@contextlib.contextmanager
def _decrypted(source: PieceReader, identity: x25519.Identity, cid: str) -> Iterator[IO[bytes]]:
    """The plaintext as a stream, decrypted in a thread of its own as fast as it is read."""
    read_end, write_end = os.pipe()
    failure: list[Exception] = []

    def work() -> None:
        with contextlib.suppress(BrokenPipeError), open(write_end, "wb") as target:
            try:
                with _age_errors(source):
                    pyrage.decrypt_io(source, target, [identity])
            except BrokenPipeError:
                return
            except (pyrage.DecryptError, OSError) as error:
                failure.append(HashMismatch(cid, f"it does not open ({error})"))
            except StorageError as error:
                failure.append(error)

    thread = threading.Thread(target=work, name="age")
    thread.start()
    try:
        with open(read_end, "rb") as plain:
            yield plain
            # The last piece is what proves that nothing was cut off.
            while plain.read(READ_BYTES):
                pass
    except PackageRejected as error:
        thread.join()
        raise failure[0] if failure else HashMismatch(cid, str(error)) from error
    finally:
        thread.join()
    if failure:
        raise failure[0]


@contextlib.contextmanager
def _age_errors(reader: PieceReader) -> Iterator[None]:
    """Gives a reader's own error back, which pyrage puts into other words."""
    try:
        yield
    except (pyrage.EncryptError, pyrage.DecryptError, OSError):
        if reader.failure is not None:
            raise reader.failure from None
        raise


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
