"""Reads: who sees what, what is found, what can be called; and the policies that change apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import queries, ranking, services, tasks
from marketplace.catalog.access import Guest
from marketplace.catalog.models import Badge, Model, Version
from marketplace.catalog.queries import SearchRequest
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, OWNER, STAFF, STRANGER, PlayedNode

PRIVATE = MANIFEST + f"access: {{public: false, allow_list: ['{STAFF}']}}\n"


def caller(address: str | None) -> Caller | None:
    return Caller(address) if address else None


def problem_of(name: str, number: str | None = None, viewer: str | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        queries.servable(name, number, viewer=caller(viewer))
    return caught.value


def listed(viewer: str | None, **kwargs: Any) -> queries.SearchPage:
    return queries.search(SearchRequest(**kwargs), viewer=caller(viewer))


def names(viewer: str | None = None, **kwargs: Any) -> list[str]:
    return [model.name for model in listed(viewer, **kwargs).models]


def counts(key: str, viewer: str | None = None, **kwargs: Any) -> dict[str, int]:
    page = listed(viewer, **kwargs)
    return {facet.value: facet.count for facet in page.facets[key]}


def test_a_private_model_is_there_for_owner_and_allow_list_only(activated: Publish) -> None:
    activated(PRIVATE)
    for viewer in (OWNER, STAFF):
        assert queries.servable("echo-text", None, viewer=Caller(viewer)).auth_required
        assert (names(viewer), counts("task", viewer)) == (["echo-text"], {"text-generation": 1})
    for stranger in (None, STRANGER):
        hidden = problem_of("echo-text", viewer=stranger)
        unknown = problem_of("no-such-one", viewer=stranger)
        assert hidden.status == unknown.status == 404
        assert hidden.detail == unknown.detail.replace("no-such-one", "echo-text")
        assert (names(stranger), counts("task", stranger)) == ([], {})
        with pytest.raises(Problem) as caught:
            queries.get_version("echo-text", "1.0", viewer=caller(stranger))
        assert caught.value.status == 404


def test_a_pending_version_is_its_owner_s_alone(publish: Publish) -> None:
    publish()
    assert (problem_of("echo-text").status, names()) == (404, [])
    pending = problem_of("echo-text", viewer=OWNER)
    assert (pending.status, pending.code) == (409, "not-active")
    assert queries.get_version("echo-text", None, viewer=Caller(OWNER)).state == "pending"


def test_what_a_call_needs_is_there(activated: Publish) -> None:
    activated(MANIFEST + "pricing: {per_request_fee: 0.25 IFM}\n")
    found = queries.servable("echo-text", "1", viewer=None)
    assert (found.number, found.fee_base_units, found.runtime) == ("1.0.0", 25 * 10**16, "onnx")
    assert found.tensors is not None
    assert found.tensors.inputs[0].pointer == "/text"


def test_expiry_is_by_the_database_s_clock(activated: Publish, owner: Wallet) -> None:
    version = activated()
    Version.objects.update(expires_at=Now() + timedelta(seconds=30))
    assert names() == ["echo-text"]
    Version.objects.update(expires_at=Now() - timedelta(milliseconds=1))
    gone = problem_of("echo-text")
    assert (gone.status, gone.code, names()) == (410, "expired", [])
    services.change_terms(
        version=version,
        fee_base_units=7,
        payout_address=STAFF.lower(),
        expires_at=timezone.now() + timedelta(days=1),
        reason="extended",
        changed_by=owner,
    )
    assert queries.servable("echo-text", None, viewer=None).fee_base_units == 7
    assert [terms.reason for terms in version.terms_history.all()] == ["extended", "manifest"]


def test_when_the_newest_expires_an_older_one_serves(activated: Publish) -> None:
    activated()
    activated(MANIFEST.replace("1.0", "2.0"))
    Version.objects.filter(number="2.0.0").update(expires_at=Now())
    assert queries.servable("echo-text", None, viewer=None).number == "1.0.0"


def test_a_list_shows_the_older_version_from_the_moment_the_newest_expires(
    activated: Publish,
) -> None:
    activated(MANIFEST.replace("Gives a text back", "The old one"))
    activated(MANIFEST.replace("1.0", "2.0"))
    Version.objects.filter(number="2.0.0").update(expires_at=Now())
    assert queries.get_version("echo-text", None, viewer=None).number == "1.0.0"
    (found,) = listed(None, text="old").models
    assert found.current is not None
    assert found.current.number == "1.0.0"
    assert services.choose_unexpired() == 0


def test_what_expired_without_another_stays_out_of_lists(activated: Publish) -> None:
    activated()
    Version.objects.update(expires_at=Now())
    tasks.choose_unexpired()
    assert names() == []
    assert queries.get_version("echo-text", None, viewer=Caller(OWNER)).number == "1.0.0"


@pytest.mark.parametrize(
    ("standings", "chosen"),
    [
        ("1.0.0 active, 2.0.0-rc.1 active", "1.0.0"),
        ("1.9.0 active, 1.10.0 popular", "1.10.0"),
        ("1.0.0 active, 2.0.0 pending", "1.0.0"),
        ("1.0.0 active, 2.0.0 deprecated", "1.0.0"),
        ("1.0.0-rc.1 active, 0.9.0 deprecated", "1.0.0-rc.1"),
        ("1.0.0 deprecated, 2.0.0-rc.1 deprecated", "1.0.0"),
        ("1.0.0 deprecated, 2.0.0 delisted", "1.0.0"),
        ("1.0.0 active, 2.0.0 active expired", "1.0.0"),
        ("1.0.0 deprecated, 2.0.0 active expired", "1.0.0"),
        ("1.0.0 active expired, 2.0.0 pending", "1.0.0"),
        ("1.0.0 pending, 2.0.0-rc.1 delisted", "2.0.0-rc.1"),
    ],
)
def test_the_best_version_is_the_highest_live_release_whose_time_is_not_over(
    publish: Publish, standings: str, chosen: str
) -> None:
    for standing in standings.split(", "):
        number, state, *expired = standing.split()
        publish(MANIFEST.replace("version: 1.0", f"version: {number}"))
        Version.objects.filter(number=number).update(
            state=state, expires_at=Now() if expired else None
        )
    best = ranking.best_first(Version.objects.all()).first()
    assert best is not None
    assert best.number == chosen


def test_a_call_reads_one_row_once_the_contract_is_known(
    activated: Publish, django_assert_num_queries: Any
) -> None:
    activated()
    activated(MANIFEST.replace("1.0", "2.0"))
    queries.servable("echo-text", None, viewer=None)
    with django_assert_num_queries(1):
        assert queries.servable("echo-text", None, viewer=None).number == "2.0.0"


def test_a_delisted_version_is_gone_and_says_why(activated: Publish) -> None:
    version = activated()
    services.delist(version=version, reason="Abuse.")
    gone = problem_of("echo-text", "1.0.0")
    assert (gone.status, gone.code, "Abuse." in gone.detail) == (410, "delisted", True)
    assert names() == []
    with pytest.raises(Problem) as caught:
        services.delist(version=version, reason="Again.")
    assert caught.value.status == 409


def test_access_changes_apart_from_packages_and_keeps_its_history(
    activated: Publish, owner: Wallet
) -> None:
    version = activated()
    services.change_access(
        model=version.model,
        public=False,
        auth_required=True,
        restricted=True,
        reason="Now for agents",
        changed_by=owner,
    )
    services.allow(model=version.model, guests=[Guest(STAFF.lower())], changed_by=owner)
    assert (names(), names(STAFF)) == ([], ["echo-text"])
    history = [(p.public, p.reason) for p in version.model.access_history.all()]
    assert history == [(False, "Now for agents"), (True, "manifest")]
    with pytest.raises(Problem):
        services.change_access(
            model=version.model,
            public=False,
            auth_required=False,
            restricted=True,
            reason="x",
            changed_by=owner,
        )


@pytest.fixture
def shop(activated: Publish, node: PlayedNode) -> None:
    """Three models: a free and a paid one of one task, and an experimental one of another."""
    activated(MANIFEST.replace("Gives a text back.", "Summarises long reports."))
    paid = MANIFEST.replace("echo-text", "paid-words").replace("MIT", "Apache-2.0")
    activated(paid + "pricing: {per_request_fee: 1}\n")
    activated(
        MANIFEST.replace("echo-text", "odd-one").replace("text-generation", "ocr")
        + "stability: experimental\n"
    )


@pytest.mark.usefixtures("shop")
def test_text_facets_order_and_counts() -> None:
    assert names(text="summarising report") == ["echo-text"]
    assert names(text="PAID") == ["paid-words"]
    assert names(text="nothing like it \0 & | !") == []
    assert names(sort="name") == ["echo-text", "odd-one", "paid-words"]
    assert names(sort="price")[-1] == "paid-words"
    assert names(sort="newest")[0] == "odd-one"
    assert names(tasks=("ocr", "text-generation"), price="free", sort="name") == [
        "echo-text",
        "odd-one",
    ]
    assert names(stabilities=("experimental",)) == ["odd-one"]
    assert names(licenses=("Apache-2.0",)) == ["paid-words"]
    assert counts("task") == {"text-generation": 2, "ocr": 1}
    assert counts("task", tasks=("ocr",)) == {"text-generation": 2, "ocr": 1}
    assert counts("task", price="paid") == {"text-generation": 1}
    assert counts("price", tasks=("ocr",)) == {"free": 1}
    assert counts("license", licenses=("GPL-3.0",))["GPL-3.0"] == 0


@pytest.mark.usefixtures("shop")
def test_calls_of_thirty_days_order_the_list() -> None:
    services.set_calls_30d({"odd-one": 9, "paid-words": 3})
    assert names() == ["odd-one", "paid-words", "echo-text"]
    services.set_calls_30d({"echo-text": 1})
    assert Model.objects.get(pk="odd-one").calls_30d == 0


@pytest.mark.usefixtures("shop")
def test_an_expired_badge_no_longer_finds() -> None:
    assert len(names(badges=("schema-validated",))) == 3
    Badge.objects.filter(version__model="odd-one").update(expires_at=Now())
    assert names(badges=("schema-validated",), sort="name") == ["echo-text", "paid-words"]
    assert counts("badge")["schema-validated"] == 2


@pytest.mark.usefixtures("shop")
def test_a_page_beyond_the_last_is_the_last() -> None:
    page = queries.search(SearchRequest(page=99), viewer=None)
    assert (page.page, page.pages, page.total) == (1, 1, 3)


@pytest.mark.usefixtures("shop")
def test_a_list_costs_the_same_queries_however_long(django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(10):
        for model in queries.search(SearchRequest(), viewer=None).models:
            assert model.current is not None
            assert len(model.current.badges.all()) == 3


def test_versions_are_listed_in_their_order(activated: Publish, publish: Publish) -> None:
    for number in ("1.9", "1.10", "2.0.0-rc.1"):
        version = publish(MANIFEST.replace("1.0", number))
    assert [v.number for v in queries.versions_of(version.model)] == [
        "2.0.0-rc.1",
        "1.10.0",
        "1.9.0",
    ]
