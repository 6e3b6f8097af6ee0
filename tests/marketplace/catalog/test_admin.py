"""The review queue: what curators see of it, and the verdicts given there."""

from __future__ import annotations

import io
import tarfile

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from inframind.identity import seats
from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.models import CodeReview, PackageKey, Version
from tests.inframind.identity.browsing import page_of, verified
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, PYTHON_MANIFEST, python_package

QUEUE = "/admin/catalog/version/"
CURATOR = "0x4444444444444444444444444444444444444444"


@pytest.fixture
def curator(db: None) -> Wallet:
    wallet = Wallet.objects.of(CURATOR)
    seats.appoint_curator(wallet=wallet, ends_at=None, reason="Reads code.", granted_by=None)
    return wallet


@pytest.fixture
def desk(curator: Wallet) -> Client:
    """The curator's browser, with the second factor shown."""
    return verified(curator)


@pytest.fixture
def waiting(owner: Wallet) -> Version:
    return services.register(publisher=owner, stream=python_package()).version


@pytest.fixture
def private(owner: Wallet) -> Version:
    manifest = PYTHON_MANIFEST.replace("echo-text", "hidden-echo") + "access: {public: false}\n"
    return services.register(publisher=owner, stream=python_package(manifest)).version


def test_curators_see_only_public_code_that_waits(
    desk: Client, waiting: Version, private: Version, publish: Publish
) -> None:
    publish(MANIFEST.replace("echo-text", "echo-graph"))
    page = page_of(desk.get(QUEUE))
    assert "Code that waits to be read" in page
    assert "echo-text@1.0.0" in page
    assert "hidden-echo" not in page
    assert "echo-graph" not in page
    assert "echo-text@1.0.0" in page_of(desk.get(f"{QUEUE}{waiting.pk}/change/"))
    for path in (
        f"{QUEUE}{private.pk}/review/",
        f"{QUEUE}{private.pk}/package/",
        f"{QUEUE}{waiting.pk}/verify/",
    ):
        assert desk.get(path).status_code == 404, path
    assert desk.get(f"{QUEUE}{private.pk}/change/").headers["Location"] == "/admin/"


def test_curators_see_no_other_table(desk: Client, waiting: Version) -> None:
    page = page_of(desk.get("/admin/"))
    assert QUEUE in page
    for name in ("identity", "mesh", "gateway", "lists", "catalog/model", "catalog/codereview"):
        assert f"/admin/{name}/" not in page, name
        assert desk.get(f"/admin/{name}/").status_code in (403, 404), name


def test_a_curator_approves_for_a_reason_that_is_logged(
    desk: Client, curator: Wallet, waiting: Version
) -> None:
    path = f"{QUEUE}{waiting.pk}/review/"
    page = page_of(desk.get(path))
    assert all(each["path"] in page for each in waiting.files)
    assert f"{QUEUE}{waiting.pk}/package/" in page
    package = desk.get(f"{QUEUE}{waiting.pk}/package/")
    with tarfile.open(fileobj=io.BytesIO(package.getvalue())) as archive:
        assert sorted(archive.getnames()) == [each["path"] for each in waiting.files]
    assert desk.post(path, {"verb": "approved", "reason": " "}).status_code == 422
    assert desk.post(path, {"verb": "praised", "reason": "Fine."}).status_code == 200
    assert CodeReview.objects.count() == 0
    assert desk.post(path, {"verb": "approved", "reason": "Read in full."}).status_code == 302
    review = CodeReview.objects.get()
    assert (review.reviewer, review.verdict, review.note) == (curator, "approved", "Read in full.")
    logged = {each.get_change_message() for each in LogEntry.objects.all()}
    assert logged == {"Downloaded the package", "Approve: I have read it: Read in full."}
    assert waiting.verifications.count() == 1
    assert "echo-text" not in page_of(desk.get(QUEUE))


def test_a_refusal_is_told_to_the_owner(desk: Client, waiting: Version) -> None:
    desk.post(f"{QUEUE}{waiting.pk}/review/", {"verb": "refused", "reason": "It opens files."})
    waiting.refresh_from_db()
    assert "It opens files." in waiting.state_reason


def test_nobody_reviews_their_own_in_the_queue_either(desk: Client, curator: Wallet) -> None:
    own = services.register(publisher=curator, stream=python_package()).version
    answer = desk.post(f"{QUEUE}{own.pk}/review/", {"verb": "approved", "reason": "Mine."})
    assert answer.status_code == 422
    assert "own code" in page_of(answer)
    assert CodeReview.objects.count() == 0


def test_a_seat_that_ends_takes_the_queue_at_once(
    desk: Client, curator: Wallet, waiting: Version
) -> None:
    path = f"{QUEUE}{waiting.pk}/review/"
    assert desk.get(path).status_code == 200
    seats.end_seat(seat=curator.seats.get(), reason="Over.", ended_by=None)
    assert desk.get(path).status_code == 404
    assert desk.post(path, {"verb": "approved", "reason": "Late."}).status_code == 404
    assert desk.get("/admin/").status_code == 404
    assert CodeReview.objects.count() == 0


def test_staff_review_what_is_private_and_queue_checks_again(
    staff: Wallet, private: Version
) -> None:
    desk = verified(staff)
    assert "hidden-echo@1.0.0" in page_of(desk.get(f"{QUEUE}?review=waiting"))
    package = desk.get(f"{QUEUE}{private.pk}/package/")
    with tarfile.open(fileobj=io.BytesIO(package.getvalue())) as archive:
        assert "model.yaml" in archive.getnames()
    answer = desk.post(f"{QUEUE}{private.pk}/review/", {"verb": "approved", "reason": "Read."})
    assert answer.status_code == 302
    assert CodeReview.objects.get().reviewer == staff
    again = desk.post(f"{QUEUE}{private.pk}/verify/", {"verb": "verify", "reason": "New node."})
    assert again.status_code == 302


def test_a_package_key_shows_its_public_half_only(staff: Wallet, private: Version) -> None:
    desk = verified(staff)
    for key in PackageKey.objects.all():
        page = page_of(desk.get(f"/admin/catalog/packagekey/{key.pk}/change/"))
        assert key.recipient in page
        assert str(key) == f"{key.recipient} of {private.model_id}"
        assert "PackageKey object" not in page
        assert bytes(key.secret_wrapped).hex() not in page
        assert "secret" not in page.lower()
