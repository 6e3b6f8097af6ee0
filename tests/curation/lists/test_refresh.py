"""Shelves over real rows: what is counted, what is shown, what leaves at once."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from rest_framework.test import APIClient

from curation.lists import queries, services
from curation.lists.models import ShelfEntry
from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from marketplace.catalog.models import Badge, Check, Model, Verification, Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Pin
from tests.marketplace.unsigned import UNSIGNED

OWNER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
pytestmark = pytest.mark.django_db


def listed(name: str, **changes: Any) -> Model:
    owner = Wallet.objects.of(OWNER)
    model = Model.objects.create(name=name, skeleton=name, owner=owner)
    given: dict[str, Any] = {
        "model": model,
        "number": "1.0.0",
        "precedence": "1",
        "cid": f"bafy{name}",
        "size_bytes": 1,
        "files": [],
        "manifest": {},
        "description": f"What {name} does.",
        "license": "MIT",
        "task": "ocr",
        "runtime": "onnx",
        "stability": "stable",
        "state": Version.State.ACTIVE,
        "activated_at": Now(),
        "published_by": owner,
        "payout_address": OWNER,
    }
    model.current = Version.objects.create(**{**given, **changes})
    model.save(update_fields=["current"])
    return model


def called(
    model: Model, count: int, outcome: str = "served", *, days_ago: int = 0, linked: bool = False
) -> None:
    served = outcome == "served"
    Call.objects.bulk_create(
        Call(
            id=new_uuid7(),
            version=model.current,
            outcome=outcome,
            node_name="node-a" if served else "",
            output_digest="sha256:0" if served else "",
            input_digest="sha256:0",
            latency_us=1000 + index,
            created_at=Now() - timedelta(days=days_ago),
            linked=linked,
            **UNSIGNED,
        )
        for index in range(count)
    )


def badge(model: Model, kind: str, *, lifetime: timedelta = timedelta(days=1)) -> None:
    assert model.current is not None
    run = Verification.objects.create(version=model.current, state="passed")
    check = Check.objects.create(verification=run, kind="structured", passed=True, cid="bafy")
    Badge.objects.create(
        version=model.current, kind=kind, evidence=check, expires_at=Now() + lifetime
    )


def names(slug: str) -> list[str]:
    return [entry.model_id for entry in queries.shelf(slug).entries]


def test_a_rank_is_stored_with_the_figures_that_it_came_from() -> None:
    model = listed("busy")
    called(model, 19)
    called(model, 1, "model-failed")
    called(model, 5, "invalid-input")  # the caller's own mistake
    called(model, 50, days_ago=31)
    services.refresh()
    entry = queries.shelf("top-performing").entries[0]
    assert entry.figures == {"calls": 20, "served": 19, "mismatched": 0, "p50_us": 1009}
    assert entry.score == "18.05"  # 19 x 19 / 20
    model.refresh_from_db()
    assert model.calls_30d == 19


def test_calls_of_those_who_are_paid_for_them_count_nowhere() -> None:
    model = listed("own")
    called(model, 20)
    called(model, 40, linked=True)
    called(model, 40, "model-failed", linked=True)
    services.refresh()
    entry = queries.shelf("top-performing").entries[0]
    assert entry.figures == {"calls": 20, "served": 20, "mismatched": 0, "p50_us": 1010}
    model.refresh_from_db()
    assert model.calls_30d == 20


def test_a_model_that_keeps_breaking_its_schema_leaves_the_shelf_and_stays_listed() -> None:
    model = listed("mismatch")
    called(model, 30)
    services.refresh()
    assert names("top-performing") == ["mismatch"]
    called(model, 3, "invalid-output")
    services.refresh()
    assert names("top-performing") == []
    assert Version.objects.get(model=model).state == Version.State.ACTIVE


def test_an_expired_badge_and_an_ended_pin_carry_nobody() -> None:
    fresh, stale = listed("fresh"), listed("stale")
    badge(fresh, "agent-compatible")
    badge(stale, "agent-compatible", lifetime=-timedelta(seconds=1))
    Pin.objects.create(model=fresh, source="dao", reason="voted")
    Pin.objects.create(model=stale, source="dao", reason="voted", ends_at=Now())
    Pin.objects.create(model=listed("busy"), source="popular", reason="usage")
    services.refresh()
    assert names("agent-compatible") == ["fresh"]
    assert names("dao-pinned") == ["fresh"]


def test_what_goes_private_leaves_before_the_next_count() -> None:
    model = listed("quiet", stability="alpha")
    services.refresh()
    assert names("experimental") == ["quiet"]
    Model.objects.filter(pk=model.pk).update(public=False, auth_required=True, restricted=True)
    assert names("experimental") == []
    assert queries.shelf("experimental").total == 0


def test_a_second_refresh_replaces_the_first() -> None:
    listed("one", stability="alpha")
    assert services.refresh() == services.refresh()
    assert ShelfEntry.objects.count() == 1


def test_shelves_are_empty_with_words_and_a_time_when_nothing_qualifies() -> None:
    services.refresh()
    for shelf in queries.featured():
        assert shelf.entries == []
        assert shelf.empty
        assert shelf.computed_at is not None


def test_an_unknown_shelf_is_404_and_names_the_known() -> None:
    with pytest.raises(Problem) as caught:
        queries.shelf("best-ever")
    assert caught.value.status == 404
    assert "top-performing" in caught.value.remedy


@pytest.fixture
def many() -> None:
    for index in range(12):
        model = listed(f"model-{index}", stability="alpha")
        badge(model, "agent-compatible")
    services.refresh()


def test_the_number_of_queries_does_not_grow_with_the_models(
    many: None, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(4):
        shelves = queries.featured(entries_per_shelf=12)
        for shelf in shelves:
            for entry in shelf.entries:
                assert entry.model.current is not None
                assert str(entry.model.owner)
                assert [each.kind for each in entry.model.current.badges.all()]


def test_the_api_gives_every_collection_with_its_rule_and_figures() -> None:
    listed("one", stability="alpha")
    services.refresh()
    answer = APIClient().get("/api/v1/collections/experimental")
    assert answer.status_code == 200
    document = answer.json()
    assert document["rule"].startswith("Marked alpha or experimental")
    assert document["total"] == 1
    assert document["entries"][0]["name"] == "one"
    assert document["entries"][0]["version"] == "1.0.0"
    assert set(document["entries"][0]["figures"]) == {"calls", "served", "mismatched", "p50_us"}
    assert [each["slug"] for each in APIClient().get("/api/v1/collections").json()] == [
        "top-performing",
        "dao-pinned",
        "privacy-ready",
        "experimental",
        "agent-compatible",
    ]
    assert APIClient().get("/api/v1/collections/none").json()["type"] == "/problems/not-found"


def test_the_command_says_how_many_are_on_each_shelf() -> None:
    listed("one", stability="alpha")
    out = StringIO()
    call_command("refresh_lists", stdout=out)
    assert "experimental       1" in out.getvalue()


@pytest.mark.django_db(transaction=True)
def test_two_refreshes_at_once_are_one_after_the_other() -> None:
    from threading import Thread

    listed("one", stability="alpha")
    problems: list[BaseException] = []

    def work() -> None:
        try:
            services.refresh()
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert ShelfEntry.objects.count() == 1
