"""Taking a package in: stored under its CID, read, held against every rule, or gone again."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import connection, transaction

from inframind.lib.cid import parse_cid
from inframind.lib.manifesttext import AllowListStays, without_allow_list
from inframind.lib.problem import Problem, Violation
from inframind.storage import errors, sealed
from inframind.storage.packages import (
    PackageLimits,
    StoredPackage,
    checked_path,
    read_package,
)
from inframind.storage.references import Gateways, open_reference
from inframind.storage.store import get_store
from inframind.storage.tar import Readable, TarReader, too_large, write_tar
from marketplace.catalog import contents, manifest
from marketplace.catalog.manifest import Manifest, parse_manifest
from marketplace.catalog.models import Version
from marketplace.catalog.packages import Opened

README = "README.md"
README_MAX_BYTES = 512 << 10
_COPY_BYTES = 1 << 20
UNCLAIMED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Arrived:
    """A tar stream of which nothing is stored yet, and what its manifest says.

    ``allow_list`` stood in the manifest; the stream and the manifest here are without it.
    """

    stream: IO[bytes]
    manifest: Manifest
    allow_list: tuple[str, ...] = ()


@dataclass(frozen=True)
class Intake:
    """A checked package, not yet anybody's."""

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
            translated(),
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


@contextlib.contextmanager
def arrived(stream: IO[bytes]) -> Iterator[Arrived]:
    """Reads the manifest of a tar stream, held against every rule of packages, storing nothing.

    An allow list in the manifest is policy and becomes no part of the package: the stream that is
    given back is one without it. Raises ``Problem``.
    """
    text = _manifest_text(stream)
    declared = parse_manifest(text)
    try:
        bare, _ = without_allow_list(text)
        if bare == text and declared.access.allow_list:
            raise AllowListStays("access.allow_list cannot be told apart from what is around it.")
    except AllowListStays as error:
        raise _allow_list_stays(str(error)) from None
    if bare == text:
        yield Arrived(stream, declared)
        return
    with tempfile.TemporaryFile() as spool:
        for piece in write_tar(_with_manifest(stream, bare)):
            spool.write(piece)
        spool.seek(0)
        yield Arrived(spool, parse_manifest(bare), declared.access.allow_list)


def store(stream: IO[bytes], *, expected_cid: str) -> StoredPackage:
    """Stores an upload as it is. Raises ``Problem``, and then nothing of it stays."""
    with translated():
        return get_store().add_package(stream, limits=limits(), expected_cid=expected_cid or None)


def read_in(package: StoredPackage, opened: Opened) -> Intake:
    """Reads and checks a package. Raises ``Problem``; where it is kept it stays as it is."""
    with translated():
        contents.locate_manifest(package.files)
        try:
            text = opened.read_bytes(manifest.FILE_NAME, limit_bytes=manifest.MAX_BYTES)
        except errors.ContentTooLarge as error:
            raise _manifest_too_large(error) from error
        declared = parse_manifest(text)
        contents.check_contents(declared, package.files, opened.open_file)
        return Intake(package, declared, _readme(opened, package))


def keep(stream: IO[bytes], package: StoredPackage) -> None:
    """Makes sure, under the content's lock, that nobody's failed registration took it away."""
    lock_content(package.cid)
    with translated():
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
    sealed.sweep_opened(Path(settings.STORE_DIR))
    kept = get_store()
    packages = 0
    for cid, stored_at in kept.kept():
        if time.time() - stored_at > UNCLAIMED_SECONDS:
            packages += discard(cid)
    return packages, kept.collect()


def lock_content(cid: str) -> None:
    """Holds, until the transaction ends, what others would keep, discard or review under this CID.

    Of a sealed package, the content's CID locks its code and the stored one its bytes.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [cid])


def _manifest_text(stream: IO[bytes]) -> bytes:
    """The manifest of a tar stream that keeps the rules; one byte too many if it is too long."""
    text = bytearray()

    def copy(path: str) -> Callable[[bytes], object]:
        return keep_start if path == manifest.FILE_NAME else len

    def keep_start(piece: bytes) -> None:
        text.extend(piece[: manifest.MAX_BYTES + 1 - len(text)])

    with translated():
        package = read_package(stream, limits=limits(), emit=lambda cid, block: None, copy=copy)
        contents.locate_manifest(package.files)
    stream.seek(0)
    return bytes(text)


def _with_manifest(stream: IO[bytes], text: bytes) -> Iterator[tuple[str, int, Iterator[bytes]]]:
    """The members of a tar that was read once already, with another manifest among them."""
    reader = TarReader(stream, limit_bytes=1 << 62)
    for member in reader:
        if member.is_directory:
            continue
        if checked_path(member, limits()) == manifest.FILE_NAME:
            yield member.path, len(text), iter([text])
        else:
            yield member.path, member.size_bytes, reader.content()


def _readme(opened: Opened, package: StoredPackage) -> str:
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
    data = opened.read_bytes(README, limit_bytes=README_MAX_BYTES)
    return data.decode("utf-8", "replace").replace("\0", "�")


@contextlib.contextmanager
def translated() -> Iterator[None]:
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
            remedy="Declare the CID of this content, or send the content of that CID. An "
            "access.allow_list in model.yaml is taken out first: it is never part of a package.",
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


def _allow_list_stays(detail: str) -> Problem:
    remedy = (
        "Remove access.allow_list from model.yaml and send the addresses in the field allow_list."
    )
    return Problem(
        "manifest-invalid",
        f"{manifest.FILE_NAME} cannot be used: {detail}",
        status=422,
        remedy=remedy,
        violations=(Violation("/access/allow_list", detail, remedy),),
    )
