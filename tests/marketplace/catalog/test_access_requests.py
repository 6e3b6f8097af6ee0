"""Asking to be let in tells nothing of a name, holds to its limit, and is answered by the owner."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import access_requests, attempts, services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import AccessRequest, AllowEntry, Attempt, Model
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, OWNER, PRIVATE, STRANGER, login

ASK = "/api/v1/models/{}/access/requests"


@pytest.fixture
def private(activated: Publish) -> Model:
    return activated(PRIVATE).model


def states(wallet: str = STRANGER) -> list[tuple[str, str, str]]:
    return [(each.model, each.state, each.answer) for each in access_requests.asked_by(wallet)]


def pending(model: Model) -> AccessRequest:
    return access_requests.requests_for(model).get(state="open")


def test_the_answer_and_the_work_are_the_same_for_every_name(
    client: Client, activated: Publish, owner: Wallet, stranger: Wallet
) -> None:
    private = activated(PRIVATE).model
    activated(MANIFEST.replace("echo-text", "open-one"))
    listed = activated(PRIVATE.replace("echo-text", "mine-too")).model
    services.allow(model=listed, guests=[Guest(STRANGER)], changed_by=owner)
    headers = login(stranger)
    client.get("/api/v1/account/access-requests", headers=headers)
    seen = set()
    for name in (private.pk, "open-one", "mine-too", "nobody-has", "admin"):
        with CaptureQueriesContext(connection) as caught:
            answer = client.post(
                ASK.format(name), {"message": "x"}, "application/json", headers=headers
            )
        varying = {"X-Request-Id", "Date"}
        kept = tuple(sorted(i for i in answer.headers.items() if i[0] not in varying))
        sql = tuple(query["sql"].partition(" ")[0] for query in caught.captured_queries)
        seen.add((answer.status_code, answer.content, kept, sql))
    [(status, _, _, statements)] = seen
    assert (status, statements.count("INSERT")) == (202, 2)
    assert AccessRequest.objects.count() == 5


def test_asking_again_replaces_what_was_asked(private: Model, stranger: Wallet) -> None:
    for message in ("one", "two"):
        services.ask(wallet=stranger, name=private.pk, message=message)
    assert pending(private).message == "two"


def test_asking_again_without_a_message_keeps_the_one_that_stood(
    private: Model, stranger: Wallet
) -> None:
    for message in ("one", " \0"):
        services.ask(wallet=stranger, name=private.pk, message=message)
    assert pending(private).message == "one"


def test_a_kept_message_does_not_tell_of_a_silent_refusal(
    private: Model, owner: Wallet, stranger: Wallet
) -> None:
    for name in ("nobody-has", private.pk):
        services.ask(wallet=stranger, name=name, message="one")
    request_id = pending(private).pk
    services.decide(model=private, request_id=request_id, state="refused", decided_by=owner)
    for name in ("nobody-has", private.pk):
        services.ask(wallet=stranger, name=name)
    said = {each.model: each.message for each in access_requests.asked_by(STRANGER)}
    assert said == {"nobody-has": "one", "echo-text": "one"}


def test_the_owner_sees_requests_for_own_names_only(
    private: Model, owner: Wallet, stranger: Wallet, staff: Wallet
) -> None:
    services.ask(wallet=stranger, name=private.pk)
    services.ask(wallet=stranger, name="nobody-has")
    services.ask(wallet=staff, name=private.pk)
    found = access_requests.requests_for(private)
    assert sorted(each.wallet_id for each in found) == sorted([stranger.pk, staff.pk])
    assert access_requests.open_requests(private) == 2


def test_approval_puts_the_wallet_on_the_list(
    private: Model, owner: Wallet, stranger: Wallet
) -> None:
    services.ask(wallet=stranger, name=private.pk)
    later = timezone.now() + timedelta(days=1)
    services.decide(
        model=private,
        request_id=pending(private).pk,
        state="approved",
        answer="Welcome.",
        expires_at=later,
        decided_by=owner,
    )
    entry = AllowEntry.objects.get()
    assert (entry.address, entry.expires_at) == (STRANGER, later)
    assert states() == [("echo-text", "approved", "Welcome.")]


def test_a_silent_refusal_looks_like_a_name_that_nobody_has(
    private: Model, owner: Wallet, stranger: Wallet
) -> None:
    for name in ("nobody-has", private.pk):
        services.ask(wallet=stranger, name=name)
    services.decide(
        model=private, request_id=pending(private).pk, state="refused", answer="No.",
        decided_by=owner,
    )  # fmt: skip
    assert states() == [("echo-text", "open", ""), ("nobody-has", "open", "")]
    for name in ("nobody-has", private.pk):
        services.ask(wallet=stranger, name=name)
    assert states() == [("echo-text", "open", ""), ("nobody-has", "open", "")]
    services.decide(
        model=private, request_id=pending(private).pk, state="refused", answer="No.", tell=True,
        decided_by=owner,
    )  # fmt: skip
    assert ("echo-text", "refused", "No.") in states()


def test_a_request_is_decided_once_and_by_its_own_model(
    private: Model, activated: Publish, owner: Wallet, stranger: Wallet
) -> None:
    other = activated(MANIFEST.replace("echo-text", "open-one")).model
    services.ask(wallet=stranger, name=private.pk)
    request_id = pending(private).pk
    with pytest.raises(Problem) as caught:
        services.decide(model=other, request_id=request_id, state="approved", decided_by=owner)
    assert caught.value.status == 404
    services.decide(model=private, request_id=request_id, state="refused", decided_by=owner)
    with pytest.raises(Problem) as caught:
        services.decide(model=private, request_id=request_id, state="approved", decided_by=owner)
    assert (caught.value.status, AllowEntry.objects.count()) == (409, 0)


def test_what_cannot_be_a_name_is_refused_and_not_counted(stranger: Wallet) -> None:
    for name in ("", "x" * 64, "Upper", "a b", "a\0b"):
        with pytest.raises(Problem) as caught:
            services.ask(wallet=stranger, name=name)
        assert caught.value.status == 422
    assert not Attempt.objects.exists()


def test_the_limit_is_of_the_last_hour_and_says_when_to_come_back(
    stranger: Wallet, staff: Wallet, settings: Settings
) -> None:
    settings.ACCESS_REQUESTS_PER_HOUR = 2
    for name in ("first-one", "second-one"):
        services.ask(wallet=stranger, name=name)
    Attempt.objects.filter(pk=Attempt.objects.earliest("pk").pk).update(
        created_at=Now() - timedelta(minutes=50)
    )
    with pytest.raises(Problem) as caught:
        services.ask(wallet=stranger, name="third-one")
    assert caught.value.status == 429
    assert 0 < (caught.value.retry_after_seconds or 0) <= 600
    services.ask(wallet=staff, name="third-one")
    Attempt.objects.filter(wallet=stranger).update(created_at=Now() - timedelta(hours=1))
    services.ask(wallet=stranger, name="third-one")
    assert Attempt.objects.filter(wallet=stranger).count() == 1


def _at_once(count: int, act: Callable[[int], Any]) -> Counter[str]:
    """What came of so many runs, each on a connection of its own."""
    gate = threading.Barrier(count)
    outcomes: list[str] = [""] * count

    def run(index: int) -> None:
        try:
            gate.wait()
            act(index)
            outcomes[index] = "done"
        except Problem as problem:
            outcomes[index] = problem.code
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(outcomes)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_exactly_as_many_as_the_limit_are_taken(settings: Settings) -> None:
    settings.ACCESS_REQUESTS_PER_HOUR = 3
    wallet = Wallet.objects.of(STRANGER)
    came = _at_once(8, lambda index: services.ask(wallet=wallet, name=f"model-{index}"))
    assert came == {"done": 3, "too-many-requests": 5}
    assert (AccessRequest.objects.count(), Attempt.objects.count()) == (3, 3)


@pytest.mark.django_db(transaction=True)
def test_without_the_wallet_s_turn_the_limit_does_not_hold() -> None:
    """The negative control: counted first and written later, all of them get through."""
    wallet = Wallet.objects.of(OWNER)
    all_counted = threading.Barrier(4)

    def naive(index: int) -> None:
        counted = Attempt.objects.filter(wallet=wallet).count()
        all_counted.wait()
        if counted >= 3:
            raise Problem("too-many-requests", "x", status=429)
        attempts.note(wallet=wallet, kind=Attempt.Kind.ACCESS_ASKED)

    assert _at_once(4, naive) == {"done": 4}
