"""Taking a package in: stored under its CID, read, held against every rule, or gone again."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from django.db import connection, transaction

from inframind.lib.problem import Problem, Violation
from inframind.storage import errors
from inframind.storage.packages import PackageLimits, StoredPackage
from inframind.storage.references import Gateways, fetch_reference
from inframind.storage.store import Store, get_store
from inframind.storage.tar import Readable, TarReader
from marketplace.catalog import contents, manifest
from marketplace.catalog.manifest import Manifest, parse_manifest
from marketplace.catalog.models import Version

README = "README.md"
README_MAX_BYTES = 512 << 10
_COPY_BYTES = 1 << 20


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
def seekable(stream: Readable) -> Iterator[IO[bytes]]:
    """The stream itself, or a copy on disk of one that can be read only once."""
    if getattr(stream, "seekable", lambda: False)():
        yield stream  # type: ignore[misc]
        return
    most = settings.PACKAGE_MAX_BYTES + settings.PACKAGE_MAX_FILES * 8192
    with tempfile.TemporaryFile() as spool:
        while piece := stream.read(_COPY_BYTES):
            if spool.tell() > most:
                raise _refusal(
                    errors.PackageRejected(
                        "too_large",
                        "The upload is larger than any package may be.",
                        "Leave out what the model does not need.",
                    )
                )
            spool.write(piece)
        spool.seek(0)
        yield spool


def peek_manifest(stream: IO[bytes]) -> Manifest:
    """The manifest of a tar stream without storing anything; the stream is rewound.

    Raises ``Problem`` like ``take_in``.
    """
    with _translated():
        reader = TarReader(stream, limit_bytes=settings.PACKAGE_MAX_BYTES * 2)
        found = None
        for member in reader:
            if member.path.removeprefix("./") == manifest.FILE_NAME and not member.is_directory:
                found = b""
                for piece in reader.content():
                    found += piece
                    if len(found) > manifest.MAX_BYTES:
                        break
        stream.seek(0)
        if found is None:
            contents.locate_manifest(())
            raise AssertionError("unreachable: no manifest among no files")
    return parse_manifest(found)


def store_stream(stream: Readable, *, expected_cid: str) -> StoredPackage:
    """Stores an upload. Raises ``Problem``, and then nothing of it stays."""
    with _translated():
        return get_store().add_package(stream, limits=limits(), expected_cid=expected_cid or None)


def store_reference(reference: str, *, expected_cid: str) -> StoredPackage:
    """Fetches a reference once and stores it. Raises ``Problem``, and then nothing of it stays."""
    if not expected_cid:
        raise Problem(
            "cid-required",
            "A reference is taken only with the CID of its content.",
            status=422,
            remedy='Send it as "cid"; `infra` and `ipfs add --cid-version=1` print it.',
        )
    with _translated():
        return fetch_reference(
            reference,
            expected_cid=expected_cid,
            gateways=Gateways(arweave=settings.ARWEAVE_GATEWAY),
            allow_loopback=settings.ALLOW_LOOPBACK_NODES,
            store=get_store(),
            limits=limits(),
        )


def read_in(package: StoredPackage) -> Intake:
    """Reads and checks a stored package. Raises ``Problem``; what is stored stays as it is."""
    store = get_store()
    with _translated():
        contents.locate_manifest(package.files)
        try:
            text = store.read_bytes(package.cid, manifest.FILE_NAME, limit_bytes=manifest.MAX_BYTES)
        except errors.ContentTooLarge as error:
            raise _manifest_too_large(error) from error
        declared = parse_manifest(text)
        contents.check_contents(declared, package.files, lambda path: store.open(package.cid, path))
        return Intake(package, declared, _readme(store, package))


def keep(stream: IO[bytes] | None, package: StoredPackage) -> None:
    """Makes sure, under the content's lock, that nobody's failed registration took it away."""
    lock_content(package.cid)
    store = get_store()
    if store.exists(package.cid):
        return
    if stream is None:
        raise Problem(
            "try-again",
            "The package was removed while it was being registered.",
            status=409,
            remedy="Send it again.",
            retry_safe=True,
        )
    stream.seek(0)
    store_stream(stream, expected_cid=package.cid)


def discard(cid: str) -> None:
    """Removes stored content that no version refers to."""
    with transaction.atomic():
        lock_content(cid)
        if not Version.objects.filter(cid=cid).exists():
            with contextlib.suppress(errors.StorageError):
                get_store().delete(cid)


def lock_content(cid: str) -> None:
    """Holds, until the transaction ends, what others would keep or discard under this CID."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 7))", [cid])


def _readme(store: Store, package: StoredPackage) -> str:
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
    data = store.read_bytes(package.cid, README, limit_bytes=README_MAX_BYTES)
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
