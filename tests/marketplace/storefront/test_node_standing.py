"""What pages and API say of a node's reputation, its parts, and the sample they are of."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from marketplace.mesh.models import Node, Placement
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.gateway.callrows import node_called

RATED: dict[str, Any] = {
    "reputation_bps": 9_512,
    "success_bps": 9_625,
    "sla_bps": 9_998,
    "latency_bps": 8_500,
    "rated_calls": 1_000,
}


@pytest.fixture
def rated(db: None) -> Node:
    return node_called("node-a", **RATED)


def page_of(client: Client, address: str) -> str:
    page = client.get(address).content.decode()
    return page.replace('<span class="unit">%</span>', " %")


def test_the_page_of_nodes_shows_reputation_with_its_parts_and_sample(
    client: Client, rated: Node
) -> None:
    node_called("node-b", rated_calls=12)
    page = page_of(client, "/nodes")
    assert "<dt>reputation</dt><dd>95.12 %</dd>" in page
    assert "success 96.25 %, in time 99.98 %, latency 85 %" in page
    assert "its last 1\u2009000 calls" in page
    assert "not rated yet" in page
    assert "12 calls so far, of 50 that it takes" in page
    assert "no paid calls" not in page


def test_a_node_without_paid_calls_or_suspended_says_so(client: Client, rated: Node) -> None:
    Node.objects.update(paid_calls=False)
    assert "It has no paid calls until its success is back at 85 %." in page_of(client, "/nodes")
    Node.objects.update(state="suspended", state_reason="Only 60 % succeeded.")
    page = page_of(client, "/nodes")
    assert "Only 60 % succeeded." in page
    assert "no paid calls" not in page


def test_the_api_gives_the_same(client: Client, rated: Node) -> None:
    node_called("node-b")
    rated_one, other = client.get("/api/v1/nodes").json()["nodes"]
    assert rated_one["reputation"] == {
        "score_bps": 9_512,
        "success_bps": 9_625,
        "sla_bps": 9_998,
        "latency_bps": 8_500,
        "rated_at": None,
    }
    assert (rated_one["rated_calls"], rated_one["paid_calls"]) == (1_000, True)
    assert (other["reputation"], other["rated_calls"]) == (None, 0)


def test_a_model_s_diagnostics_say_how_it_does_on_each_node(
    client: Client, activated: Publish, rated: Node
) -> None:
    version = activated()
    address = f"/models/{version.model_id}?tab=diagnostics"
    assert "Where this version runs" not in page_of(client, address)
    Placement.objects.create(
        version=version,
        node=rated,
        state="failed",
        reason="Failed: 12 of 15 calls on node-a.",
        served_lately=3,
        failed_lately=12,
    )
    page = page_of(client, address)
    assert "Failed: 12 of 15 calls on node-a." in page
    assert '<td class="number">3</td>' in page
    assert '<td class="number">12</td>' in page
    assert "ready, reputation 95.12 %" in page
