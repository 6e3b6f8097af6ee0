"""Taking a package in: stored under its CID, read, held against every rule, or gone again."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from django.db import connection, transaction

from inframind.lib.cid import parse_cid
from inframind.lib.problem import Problem, Violation
from inframind.storage import errors
from inframind.storage.packages import (
    PackageLimits,
    StoredPackage,
    read_package,
    require_cid,
)
from inframind.storage.references import Gateways, open_reference
from inframind.storage.store import Store, get_store
from inframind.storage.tar import Readable, too_large
from marketplace.catalog import contents, manifest
from marketplace.catalog.manifest import Manifest, parse_manifest
from marketplace.catalog.models import Version

README = "README.md"
README_MAX_BYTES = 512 << 10
_COPY_BYTES = 1 << 20
UNCLAIMED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Intake:
    """A stored and checked package, not yet anybody's."""

    package: StoredPackage
    manifest: Manifest
    readme: str

    def files_document(self) -> list[dict[str, Any]]:
        return [
            {"path": file.path, "cid": file.cid, "size_bytes": file.size_bytes}
            for file in self.package.files
        ]


def limits() -> PackageLimits:
    """What a package may be on this server."""
    return PackageLimits(max_bytes=settings.PACKAGE_MAX_BYTES, max_files=settings.PACKAGE_MAX_FILES)


@contextlib.contextmanager
def uploaded(stream: Readable) -> Iterator[IO[bytes]]:
    """The stream itself, or a copy on disk of one that can be read only once."""
    if getattr(stream, "seekable", lambda: False)():
        yield stream  # type: ignore[misc]
        return
    with _spooled(stream) as spool:
        yield spool


@contextlib.contextmanager
def fetched(reference: str) -> Iterator[IO[bytes]]:
    """What an ``ar://`` or ``https://`` reference leads to, fetched once, on disk.

    Raises ``Problem``.
    """
    with contextlib.ExitStack() as opened:
        with (
            _translated(),
            open_reference(
                reference,
                gateways=Gateways(arweave=settings.ARWEAVE_GATEWAY),
                allow_loopback=settings.ALLOW_LOOPBACK_NODES,
            ) as body,
        ):
            spool = opened.enter_context(_spooled(body))
        yield spool


@contextlib.contextmanager
def _spooled(stream: Readable) -> Iterator[IO[bytes]]:
    most = settings.PACKAGE_MAX_BYTES + settings.PACKAGE_MAX_FILES * 8192
    with tempfile.TemporaryFile() as spool:
        while piece := stream.read(_COPY_BYTES):
            if spool.tell() > most:
                raise _refusal(too_large(settings.PACKAGE_MAX_BYTES))
            spool.write(piece)
        spool.seek(0)
        yield spool


def checked_cid(text: str) -> str:
    """The CID that a publisher declares, in its one spelling; raises ``Problem``."""
    try:
        return str(parse_cid(text)) if text else ""
    except ValueError as error:
        raise Problem(
            "invalid-request",
            f"cid: {error}",
            status=422,
            remedy="Send the CID of the package as a CIDv1, or leave it out of an upload.",
        ) from None


def peek_manifest(stream: IO[bytes], *, expected_cid: str) -> Manifest:
    """The manifest of a tar stream, held against every rule of packages, with nothing stored.

    The stream is rewound. Raises ``Problem``.
    """
    text = bytearray()

    def copy(path: str) -> Callable[[bytes], object]:
        return keep_start if path == manifest.FILE_NAME else len

    def keep_start(piece: bytes) -> None:
        # One byte too many is enough for the reader to refuse it.
        text.extend(piece[: manifest.MAX_BYTES + 1 - len(text)])

    with _translated():
        package = read_package(stream, limits=limits(), emit=lambda cid, block: None, copy=copy)
        require_cid(package, expected_cid or None)
        contents.locate_manifest(package.files)
    stream.seek(0)
    return parse_manifest(bytes(text))


def store(stream: IO[bytes], *, expected_cid: str) -> StoredPackage:
    """Stores an upload. Raises ``Problem``, and then nothing of it stays."""
    with _translated():
        return get_store().add_package(stream, limits=limits(), expected_cid=expected_cid or None)


def read_in(package: StoredPackage) -> Intake:
    """Reads and checks a stored package. Raises ``Problem``; what is stored stays as it is."""
    kept = get_store()
    with _translated():
        contents.locate_manifest(package.files)
        try:
            text = kept.read_bytes(package.cid, manifest.FILE_NAME, limit_bytes=manifest.MAX_BYTES)
        except errors.ContentTooLarge as error:
            raise _manifest_too_large(error) from error
        declared = parse_manifest(text)
        contents.check_contents(declared, package.files, kept.open_file)
        return Intake(package, declared, _readme(kept, package))


def keep(stream: IO[bytes], package: StoredPackage) -> None:
    """Makes sure, under the content's lock, that nobody's failed registration took it away."""
    lock_content(package.cid)
    with _translated():
        kept = get_store().exists(package.cid)
    if not kept:
        stream.seek(0)
        store(stream, expected_cid=package.cid)


def discard(cid: str) -> bool:
    """Removes stored content that no version refers to; says whether it did."""
    with transaction.atomic():
        lock_content(cid)
        if Version.objects.filter(cid=cid).exists():
            return False
        with contextlib.suppress(errors.StorageError):
            get_store().delete(cid)
            return True
        return False


def sweep_packages() -> tuple[int, int]:
    """Removes what a process lost between storing and registering left a day ago or earlier.

    Returns how many packages, and how many single blocks beside them, are gone. Safe beside
    registrations: ``discard`` and ``keep`` hold the same lock.
    """
    kept = get_store()
    packages = 0
    for cid, stored_at in kept.kept():
        if time.time() - stored_at > UNCLAIMED_SECONDS:
            packages += discard(cid)
    return packages, kept.collect()


def lock_content(cid: str) -> None:
    """Holds, until the transaction ends, what others would keep or discard under this CID."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [cid])


def _readme(kept: Store, package: StoredPackage) -> str:
    sizes = {file.path: file.size_bytes for file in package.files}
    if README not in sizes:
        return ""
    if sizes[README] > README_MAX_BYTES:
        raise errors.PackageRejected(
            "readme_too_large",
            f"{README} has more than {README_MAX_BYTES} bytes.",
            "Shorten it, or link to the long form.",
            README,
        )
    data = kept.read_bytes(package.cid, README, limit_bytes=README_MAX_BYTES)
    return data.decode("utf-8", "replace").replace("\0", "�")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Storage's errors become refusals that an API and a page can show."""
    try:
        yield
    except errors.PackageRejected as error:
        raise _refusal(error) from error
    except errors.CidMismatch as error:
        raise Problem(
            "cid-mismatch",
            f"The content hashes to {error.actual}, not to {error.expected}.",
            status=422,
            remedy="Declare the CID of this content, or send the content of that CID.",
            extra={"expected": error.expected, "actual": error.actual},
        ) from error
    except errors.ReferenceRefused as error:
        raise Problem("reference-refused", str(error), status=422) from error
    except errors.StoreUnavailable as error:
        raise Problem(
            "store-unavailable",
            f"The package store does not answer: {error}",
            status=503,
            retry_safe=True,
            retry_after_seconds=10,
            remedy="Try again in a moment.",
        ) from error
    except (errors.HashMismatch, errors.ContentNotFound, errors.ContentTooLarge) as error:
        raise Problem("package-damaged", str(error), status=409, retry_safe=True) from error


def _refusal(error: errors.PackageRejected) -> Problem:
    extra = {"rule": error.code}
    if error.member:
        extra["member"] = error.member
    return Problem(
        "package-rejected",
        error.message,
        status=413 if error.code == "too_large" else 422,
        remedy=error.remedy,
        extra=extra,
    )


def _manifest_too_large(error: errors.ContentTooLarge) -> Problem:
    detail = f"It has {error.size_bytes} bytes, at most {error.limit_bytes} are read."
    remedy = "Move data out of the manifest into files of the package."
    return Problem(
        "manifest-invalid",
        f"{manifest.FILE_NAME} cannot be used: {detail}",
        status=422,
        remedy=remedy,
        violations=(Violation("", detail, remedy),),
    )
