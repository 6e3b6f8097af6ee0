"""How a package comes into the store: as it was published, or sealed for a private model.

A package that may have to be sealed is first unpacked and checked in a directory of this process
alone. What the store gets is decided under the model's lock, when nothing can be refused any more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from django.conf import settings
from django.db import transaction

from inframind.lib.problem import Problem
from inframind.storage import sealed
from inframind.storage.local import LocalStore
from inframind.storage.resealing import reseal
from inframind.storage.store import get_store
from marketplace.catalog import intake, packagekeys
from marketplace.catalog.models import Model, PackageKey, Version
from marketplace.catalog.packages import Opened

Made = TypeVar("Made")


@dataclass(frozen=True)
class Filed:
    """What the store has: the CID of it and, where it is sealed, the key and the head."""

    cid: str
    key: PackageKey | None = None
    head: bytes | None = None


File = Callable[[Model, Version | None], Filed]
Create = Callable[[intake.Intake, File], Made]


def directly(stream: IO[bytes], expected_cid: str, create: Create[Made]) -> Made:
    """Stores a public model's package, then lets ``create`` make its rows in one transaction.

    Raises ``Problem``; then the package is gone, unless somebody registered the same.
    """
    package = intake.store(stream, expected_cid=expected_cid)

    def file(model: Model, existing: Version | None) -> Filed:
        if not model.public and existing is None:
            raise Problem(
                "access-changed",
                f"{model.pk} became private while this package was on its way.",
                status=409,
                retry_safe=True,
                remedy="Send it again: it is sealed then.",
            )
        return Filed(package.cid)

    try:
        with transaction.atomic():
            # Locked from here on: another's refusal of the same content cannot discard it.
            intake.keep(stream, package)
            return create(intake.read_in(package, Opened(get_store(), package.cid)), file)
    except BaseException:
        intake.discard(package.cid)
        raise


def through_a_private_copy(stream: IO[bytes], expected_cid: str, create: Create[Made]) -> Made:
    """Checks the package in a private copy and stores it while ``create`` makes its rows: sealed
    where the model is private.

    Raises ``Problem``; then neither the package nor a sealed form of it is stored.
    """
    stored: list[str] = []
    with sealed.private_directory(Path(settings.STORE_DIR)) as directory:
        held = LocalStore(directory, durable=False)
        with intake.translated():
            package = held.add_package(
                stream, limits=intake.limits(), expected_cid=expected_cid or None
            )
        opened = Opened(held, package.cid)

        def file(model: Model, existing: Version | None) -> Filed:
            with intake.translated():
                if existing is not None:
                    _restore(existing, opened)
                    return Filed(existing.cid)
                filed = _add_plain(opened) if model.public else _add_sealed(opened, model)
            stored.append(filed.cid)
            return filed

        try:
            with transaction.atomic():
                # Before the model's row, as whoever reviews this content locks them.
                intake.lock_content(package.cid)
                return create(intake.read_in(package, opened), file)
        except BaseException:
            for cid in stored:
                intake.discard(cid)
            raise


def _add_plain(opened: Opened) -> Filed:
    stream = sealed.PieceReader(opened.export_tar())
    return Filed(
        get_store().add_package(stream, limits=intake.limits(), expected_cid=opened.content_cid).cid
    )


def _add_sealed(opened: Opened, model: Model) -> Filed:
    key = packagekeys.key_in_use(model)
    package, head = sealed.add_sealed(get_store(), opened.export_tar(), recipient=key.recipient)
    return Filed(package.cid, key, head)


def _restore(version: Version, opened: Opened) -> None:
    """Stores a version's package again, byte for byte: this repairs a damaged copy."""
    if version.package_key is None or version.sealed_head is None:
        _add_plain(opened)
        return
    secret = packagekeys.secret_of(version.package_key)
    with tempfile.TemporaryFile() as file:
        reseal(opened.export_tar(), head=bytes(version.sealed_head), secret=secret, into=file)
        sealed.add_sealed_file(get_store(), file, expected_cid=version.cid)
