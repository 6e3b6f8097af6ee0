"""Registrations at the same moment: one wins, and nobody takes from another."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from inframind.storage.store import get_store
from marketplace.catalog import registration, services
from marketplace.catalog.models import Model, Verification, Version
from tests.marketplace.catalog.support import (
    MANIFEST,
    OWNER,
    PYTHON_MANIFEST,
    STAFF,
    STRANGER,
    onnx_package,
    python_package,
    stored_packages,
)


def _race(runs: list[Callable[[], Any]]) -> list[str]:
    """Starts all at once, each on a connection of its own; outcomes in order of the runs."""
    gate = threading.Barrier(len(runs))
    outcomes: list[str] = [""] * len(runs)

    def run(index: int) -> None:
        try:
            gate.wait()
            outcomes[index] = "created" if runs[index]().created else "same"
        except Problem as problem:
            outcomes[index] = problem.code
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(runs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_of_two_registrants_of_a_name_one_wins(store_dir: Path) -> None:
    wallets = [Wallet.objects.of(address) for address in (OWNER, STRANGER)]
    packages = [onnx_package(files={"README.md": wallet.pk.encode()}) for wallet in wallets]
    outcomes = _race(
        [
            partial(services.register, publisher=wallet, stream=package)
            for wallet, package in zip(wallets, packages, strict=True)
        ]
    )
    assert sorted(outcomes) == ["created", "name-unavailable"]
    assert stored_packages(store_dir) == [Version.objects.get().cid]


@pytest.mark.django_db(transaction=True)
def test_of_two_contents_for_a_number_one_wins(store_dir: Path) -> None:
    owner = Wallet.objects.of(OWNER)
    outcomes = _race(
        [
            partial(
                services.register, publisher=owner, stream=onnx_package(files={"README.md": text})
            )
            for text in (b"one", b"two")
        ]
    )
    assert sorted(outcomes) == ["created", "version-taken"]
    assert stored_packages(store_dir) == [Version.objects.get().cid]


@pytest.mark.django_db(transaction=True)
def test_the_same_content_at_once_is_one_version(store_dir: Path) -> None:
    owner = Wallet.objects.of(OWNER)
    outcomes = _race(
        [lambda: services.register(publisher=owner, stream=onnx_package()) for _ in range(3)]
    )
    assert sorted(outcomes) == ["created", "same", "same"]
    assert stored_packages(store_dir) == [Version.objects.get().cid]


@pytest.mark.django_db(transaction=True)
def test_without_the_locks_the_race_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a check before the insert alone lets both registrants through."""
    owner = Wallet.objects.of(OWNER)
    both_looked = threading.Barrier(2)
    taken: list[bool] = []

    def naive() -> Any:
        with transaction.atomic():
            taken.append(Model.objects.filter(pk="echo-text").exists())
            both_looked.wait()
            Model.objects.bulk_create(
                [Model(name="echo-text", skeleton="echotext", owner=owner)], ignore_conflicts=True
            )
        return services.Registration(Version(), created=True)

    assert _race([naive, naive]) == ["created", "created"]
    assert taken == [False, False]


@pytest.mark.django_db(transaction=True)
def test_a_failed_registrant_takes_nothing_from_one_with_the_same_content(store_dir: Path) -> None:
    """The loser discards what the winner refers to only if nobody does."""
    owner, stranger = Wallet.objects.of(OWNER), Wallet.objects.of(STRANGER)
    for turn in range(5):
        number = f"1.{turn}"
        manifest = MANIFEST.replace("1.0", number)
        outcomes = _race(
            [
                partial(services.register, publisher=owner, stream=onnx_package(manifest)),
                partial(
                    services.register,
                    publisher=stranger,
                    stream=onnx_package(manifest),
                    name="other-one",
                ),
            ]
        )
        assert outcomes == ["created", "manifest-invalid"]
        version = Version.objects.get(number=f"{number}.0")
        assert version.cid in stored_packages(store_dir)
        read = get_store().read_bytes(version.cid, "model.yaml", limit_bytes=10_000)
        assert read == manifest.encode()


@pytest.mark.django_db(transaction=True)
def test_an_approval_beside_a_registration_of_the_same_code_is_not_missed(
    store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, staff = Wallet.objects.of(OWNER), Wallet.objects.of(STAFF)
    staff.is_staff = True
    staff.save()
    nameless = PYTHON_MANIFEST.replace("name: echo-text\nversion: 1.0\n", "")

    def register(name: str) -> registration.Registration:
        stream = python_package(nameless)
        return services.register(publisher=publisher, stream=stream, name=name, version="1.0")

    first = register("echo-text").version
    about_to_commit, approved = threading.Event(), threading.Event()
    queue = registration._queue

    def queue_and_dawdle(version: Version) -> None:
        queue(version)
        about_to_commit.set()
        approved.wait(0.5)  # the approval must wait for this registration, not overtake it

    monkeypatch.setattr(registration, "_queue", queue_and_dawdle)

    def approve() -> Any:
        about_to_commit.wait(10)
        services.review_code(version=first, reviewer=staff, verdict="approved")
        approved.set()
        return registration.Registration(first, False)

    assert _race([partial(register, "repeat-words"), approve]) == [
        "created",
        "same",
    ]
    waiting = Verification.objects.filter(state="queued").values_list("version__model", flat=True)
    assert sorted(waiting) == ["echo-text", "repeat-words"]
