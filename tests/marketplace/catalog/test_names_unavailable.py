"""A name that cannot be had is refused in one way, and so often an hour, exactly."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from pytest_django import Settings

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import claims, services
from marketplace.catalog.manifestparts import Access
from marketplace.catalog.models import Attempt, Model
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import (
    MANIFEST,
    OWNER,
    PRIVATE,
    STRANGER,
    bearer,
    onnx_package,
    refusal,
    stored_packages,
)


def test_taken_private_reserved_and_look_alike_are_told_in_one_way(
    client: Client, activated: Publish, stranger: Wallet, store_dir: Path
) -> None:
    activated()
    activated(PRIVATE.replace("echo-text", "secret-one"))
    before = stored_packages(store_dir)
    headers, seen = bearer(stranger, "publish"), set()
    for name in ("echo-text", "secret-one", "admin", "s3cret-one", "ech0-text", "adm1n"):
        stream = onnx_package(MANIFEST.replace("echo-text", name))
        package = SimpleUploadedFile("package.tar", stream.getvalue(), "application/x-tar")
        answer = client.post("/api/v1/models", {"package": package}, headers=headers)
        text = answer.content.decode().replace(name, "NAME")
        text = text.replace(answer.headers["X-Request-Id"], "ID")
        varying = {"X-Request-Id", "Date", "Content-Length"}
        kept = tuple(sorted(each for each in answer.headers.items() if each[0] not in varying))
        seen.add((answer.status_code, text, kept))
    [(status, text, _)] = seen
    assert (status, "name-unavailable" in text) == (409, True)
    assert stored_packages(store_dir) == before
    assert Attempt.objects.filter(wallet=stranger).count() == 6


def test_over_the_limit_every_name_but_an_own_one_is_refused(
    activated: Publish, owner: Wallet, stranger: Wallet, settings: Settings
) -> None:
    settings.NAME_REFUSALS_PER_HOUR = 2
    activated()
    activated(MANIFEST.replace("echo-text", "their-own"), by=stranger)
    taken, free = onnx_package(), MANIFEST.replace("echo-text", "quite-free")
    codes = [refusal(stranger, stream).code for stream in (taken, onnx_package())]
    assert codes == ["name-unavailable"] * 2
    for stream in (onnx_package(), onnx_package(free)):
        problem = refusal(stranger, stream)
        assert (problem.status, problem.code) == (429, "too-many-requests")
        assert 0 < (problem.retry_after_seconds or 0) <= 3600
    own = MANIFEST.replace("echo-text", "their-own").replace("1.0", "2.0")
    assert services.register(publisher=stranger, stream=onnx_package(own)).created
    assert services.register(publisher=owner, stream=onnx_package(free)).created


def test_a_form_that_no_name_has_is_said_plainly_and_not_counted(stranger: Wallet) -> None:
    for name in ("Upper", "a--b", "-a", "x"):
        with pytest.raises(Problem) as caught:
            claims.require_available(publisher=stranger, name=name)
        assert caught.value.status == 422
    assert not Attempt.objects.exists()


def test_a_registration_that_fails_otherwise_is_not_counted(
    stranger: Wallet, db: None, publish: Publish
) -> None:
    broken = onnx_package(MANIFEST.replace("runtime: onnx", "runtime: python"))
    assert refusal(stranger, broken).code != "name-unavailable"
    assert not Attempt.objects.exists()


def test_an_allow_list_beside_the_package_makes_it_private_to_it(
    owner: Wallet, publish: Publish
) -> None:
    model = publish(allow_list=[STRANGER]).model
    assert (model.public, model.restricted, model.auth_required) == (True, True, True)
    assert [entry.address for entry in model.allow_entries.all()] == [STRANGER]


@pytest.mark.django_db(transaction=True)
def test_of_many_guesses_at_once_exactly_as_many_as_the_limit_are_answered(
    settings: Settings,
) -> None:
    settings.NAME_REFUSALS_PER_HOUR = 3
    owner, guesser = Wallet.objects.of(OWNER), Wallet.objects.of(STRANGER)
    Model.objects.create(name="secret-one", skeleton="secretone", owner=owner)
    gate = threading.Barrier(8)
    codes: list[str] = []

    def guess(name: str) -> None:
        try:
            gate.wait()
            claims.require_available(publisher=guesser, name=name)
            codes.append("free")
        except Problem as problem:
            codes.append(problem.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=guess, args=("secret-one",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(codes) == {"name-unavailable": 3, "too-many-requests": 5}


@pytest.mark.django_db(transaction=True)
def test_a_name_lost_at_the_last_moment_counts_too() -> None:
    owner, loser = Wallet.objects.of(OWNER), Wallet.objects.of(STRANGER)
    claims.require_available(publisher=loser, name="new-one")
    with transaction.atomic():
        claims.claim(publisher=owner, name="new-one", policy=Access())
    with pytest.raises(Problem), claims.counting_refusals(loser), transaction.atomic():
        claims.claim(publisher=loser, name="new-one", policy=Access())
    assert Attempt.objects.filter(wallet=loser).count() == 1
