"""A model's page: its notices, its versions, its evidence, and only addresses that exist."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.models import Version
from marketplace.mesh.models import Node, Placement, Probe
from tests.inframind.identity.browsing import verified
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST

TABS = ["overview", "try-it", "api", "versions", "diagnostics", "evidence"]


def _page(client: Client, address: str, status: int = 200) -> str:
    response = client.get(address)
    assert response.status_code == status, address
    return unescape(response.content.decode())


@pytest.fixture
def versions(activated: Publish) -> tuple[Version, Version]:
    return activated(), activated(MANIFEST.replace("version: 1.0", "version: 2.0"))


@pytest.fixture
def node_record(owner: Wallet) -> Node:
    return Node.objects.create(
        name="node-x", operator=owner, endpoint="http://127.0.0.1:1", state=Node.State.READY
    )


def test_an_expired_version_says_so(client: Client, versions: tuple[Version, Version]) -> None:
    Version.objects.filter(pk=versions[0].pk).update(
        expires_at=timezone.now() - timedelta(minutes=1)
    )
    page = _page(client, "/models/echo-text?version=1.0.0")
    assert "This version has expired" in page
    assert "410" in page


def test_a_delisted_version_says_why(client: Client, versions: tuple[Version, Version]) -> None:
    services.delist(version=versions[0], reason="Its outputs were copied from elsewhere.")
    page = _page(client, "/models/echo-text?version=1.0.0")
    assert "This version is delisted" in page
    assert "Its outputs were copied from elsewhere." in page
    assert "lifecycle-delisted" in page


def test_the_version_switch_stays_on_the_tab(
    client: Client, versions: tuple[Version, Version]
) -> None:
    page = _page(client, "/models/echo-text?tab=api&version=1.0.0")
    menu = re.search(r'<ul class="menu".*?</ul>', page, re.DOTALL)
    assert menu is not None
    assert re.findall(r'href="([^"]+)"', menu[0]) == [
        "/models/echo-text?tab=api&version=2.0.0",
        "/models/echo-text?tab=api&version=1.0.0",
    ]
    assert 'version=1.0.0" aria-current="true"' in menu[0]


def test_one_version_needs_no_switch(client: Client, activated: Publish) -> None:
    activated()
    assert "data-menu" not in _page(client, "/models/echo-text")


def test_every_badge_leads_to_the_check_that_granted_it(client: Client, activated: Publish) -> None:
    activated()
    page = _page(client, "/models/echo-text?tab=evidence")
    targets = set(re.findall(r'class="badge" href="[^"]+#([a-z-]+)"', page))
    assert targets == {"schema-validated", "hash-verified", "agent-compatible"}
    assert targets <= set(re.findall(r'<tr id="([a-z-]+)"', page))


def test_the_evidence_names_counts_time_cid_and_node(client: Client, activated: Publish) -> None:
    version = activated()
    page = _page(client, "/models/echo-text?tab=evidence")
    run = version.verifications.get()
    for check in run.checks.all():
        assert check.get_kind_display() in page
        assert f"{check.cases_passed} of {check.cases_total}" in page
        assert f"{check.created_at:%H:%M:%S}" in page
    assert version.cid in page
    assert f'href="/nodes#{run.node_name}"' in page


def test_the_rail_says_where_the_version_runs_now(
    client: Client, activated: Publish, node_record: Node
) -> None:
    version = activated()
    assert "no node; the first call loads it" in _page(client, "/models/echo-text")
    Placement.objects.create(version=version, node=node_record, state=Placement.State.READY)
    assert '<a href="/nodes#node-x">node-x</a>' in _page(client, "/models/echo-text")


def test_availability_stands_hour_by_hour_with_its_sample(
    client: Client, activated: Publish, node_record: Node
) -> None:
    version = activated()
    Probe.objects.bulk_create(
        Probe(node=node_record, version=version, ok=index != 0) for index in range(4)
    )
    page = _page(client, "/models/echo-text?tab=diagnostics")
    assert "4 probes in 24 h" in page
    assert "3 of 4 probes answered" in page
    assert page.count("chart-bar-partial") == 1


def test_pages_link_only_to_what_is_there(client: Client, activated: Publish) -> None:
    activated()
    pages = ["/", "/models", "/models/featured", "/publish", "/nodes", "/models/echo-text"]
    pages += [f"/models/echo-text?tab={tab}" for tab in TABS]
    found = {
        address.split("#")[0]
        for page in pages
        for address in re.findall(r'href="(/[^"]*)"', _page(client, page))
        if not address.startswith("/static/")
    }
    for address in sorted(found):
        assert client.get(address).status_code == 200, address


def test_an_htmx_request_for_what_is_gone_gets_the_whole_error_page(
    client: Client, db: None
) -> None:
    response = client.get("/models/never-there", headers={"HX-Request": "true"})
    page = response.content.decode()
    assert response.status_code == 404
    assert page.startswith("<!doctype html>")
    assert '<main id="main"' in page
    assert "HX-Refresh" not in response.headers


def test_the_api_reference_and_the_staff_pages_carry_nothing_inline(
    staff: Wallet,
) -> None:
    client = verified(staff)
    for address in ["/api/docs/", "/admin/", "/admin/catalog/version/", "/admin/mesh/node/"]:
        page = _page(client, address)
        assert not re.search(r'<style|\sstyle="|\son[a-z]+="', page), address
        for script in re.findall(r"<script[^>]*>", page):
            assert "src=" in script or 'type="application/json"' in script, address
