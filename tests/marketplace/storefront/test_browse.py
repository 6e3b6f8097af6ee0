"""The list and the lists: pages of results, rows or cards, and few queries however many models."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client

from curation.lists.services import refresh
from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Badge, Model, Version
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST

PAGE = 20
Queries = Callable[..., object]


def _copies(version: Version, count: int) -> None:
    """More listings like this one, each active with the same badges."""
    badges = list(version.badges.all())
    for index in range(count):
        name = f"copy-{index:02d}"
        model = Model.objects.create(name=name, skeleton=name, owner=version.model.owner)
        copy = Version.objects.get(pk=version.pk)
        copy.pk, copy.model = new_uuid7(), model
        copy.save(force_insert=True)
        Badge.objects.bulk_create(
            Badge(
                version=copy,
                kind=badge.kind,
                evidence=badge.evidence,
                granted_at=badge.granted_at,
                expires_at=badge.expires_at,
            )
            for badge in badges
        )
        model.current = copy
        model.save()


def _page(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200, address
    return unescape(response.content.decode())


def _names(page: str) -> list[str]:
    return re.findall(r'<h[23][^>]*><a href="/models/([a-z0-9-]+)"', page)


def test_the_pager_leads_through_every_model_once_and_keeps_the_filters(
    client: Client, activated: Publish
) -> None:
    _copies(activated(), PAGE + 4)
    first = _page(client, "/models?sort=name&runtime=onnx&view=cards")
    link = re.search(r'href="([^"]+)" rel="next"', first)
    assert link is not None
    assert link[1] == "/models?sort=name&runtime=onnx&view=cards&page=2"
    second = _page(client, link[1])
    assert "Page 2 of 2" in second
    assert 'rel="next"' not in second
    names = _names(first) + _names(second)
    assert names == [f"copy-{index:02d}" for index in range(PAGE + 4)] + ["echo-text"]


def test_a_page_beyond_the_last_is_the_last(client: Client, activated: Publish) -> None:
    _copies(activated(), PAGE)
    assert "Page 2 of 2" in _page(client, "/models?page=40")


def test_the_same_list_stands_as_rows_or_as_cards(client: Client, activated: Publish) -> None:
    _copies(activated(), 2)
    rows, cards = _page(client, "/models?sort=name"), _page(client, "/models?sort=name&view=cards")
    assert _names(rows) == _names(cards) == ["copy-00", "copy-01", "echo-text"]
    assert (rows.count('<li class="row'), rows.count('<article class="card"')) == (3, 0)
    assert (cards.count('<li class="row'), cards.count('<article class="card"')) == (0, 3)
    assert 'id="view-rows" href="/models?sort=name"' in cards
    assert '<input type="hidden" name="view" value="cards">' in cards


@pytest.mark.parametrize("view", ["rows", "cards"])
def test_a_private_model_is_marked_in_lists_for_those_who_see_it(
    client: Client, activated: Publish, owner: Wallet, view: str
) -> None:
    activated(MANIFEST + "access: {public: false}\n")
    activated(MANIFEST.replace("name: echo-text", "name: open-echo"))
    assert _page(client, f"/models?view={view}").count("private-mark") == 0
    client.force_login(owner)
    page = _page(client, f"/models?view={view}&sort=name")
    assert _names(page) == ["echo-text", "open-echo"]
    assert page.count('class="private-mark"') == 1
    assert page.index('class="private-mark"') < page.index("/models/open-echo")


def test_best_match_is_offered_only_for_words(client: Client, activated: Publish) -> None:
    activated()
    assert 'id="sort-calls" href="/models" aria-current="true"' in _page(client, "/models")
    assert "best match" not in _page(client, "/models")
    found = _page(client, "/models?q=echo")
    assert 'id="sort-relevance" href="/models?q=echo" aria-current="true"' in found


def test_clearing_the_filters_keeps_order_and_view(client: Client, activated: Publish) -> None:
    activated()
    page = _page(client, "/models?q=echo&price=free&sort=name&view=cards")
    assert '<a class="small" href="/models?sort=name&view=cards">Clear all</a>' in page


@pytest.mark.parametrize(
    ("address", "most"),
    [
        ("/models", 11),
        ("/models?view=cards", 11),
        ("/models/featured", 21),
        ("/", 31),
        ("/collections/agent-compatible", 5),
        ("/nodes", 2),
    ],
)
def test_the_queries_of_a_page_do_not_grow_with_its_models(
    client: Client,
    activated: Publish,
    django_assert_max_num_queries: Queries,
    address: str,
    most: int,
) -> None:
    version = activated()
    _copies(version, PAGE - 1)
    refresh()
    with django_assert_max_num_queries(most):  # type: ignore[attr-defined]
        client.get(address)


def test_a_list_says_the_place_of_each_model_and_where_to_recount_it(
    client: Client, activated: Publish
) -> None:
    _copies(activated(), 2)
    refresh()
    page = _page(client, "/collections/agent-compatible")
    places = re.findall(r'<span class="visually-hidden">Place </span>(\d+)', page)
    assert places == ["1", "2", "3"]
    assert 'href="/api/v1/collections/agent-compatible"' in page
