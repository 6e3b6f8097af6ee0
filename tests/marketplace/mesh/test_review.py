"""Suspension and its review: by staff, for a reason, and lifted by nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from pytest_django import Settings

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.mesh import probing, services
from marketplace.mesh.models import Node
from tests.inframind.identity.browsing import page_of, verified
from tests.marketplace.gateway.callrows import node_called

STAFF = "0x5555555555555555555555555555555555555555"


@pytest.fixture
def desk(db: None) -> Client:
    """A staff member's browser, with the second factor shown."""
    wallet = Wallet.objects.of(STAFF)
    wallet.is_staff = True
    wallet.save()
    return verified(wallet)


@pytest.fixture
def node(db: None) -> Node:
    return node_called("node-a")


def state_of(node: Node) -> tuple[str, str]:
    node.refresh_from_db()
    return node.state, node.state_reason


def test_staff_suspend_and_review_for_a_reason_that_is_logged(desk: Client, node: Node) -> None:
    row, review = (f"/admin/mesh/node/{node.pk}/{page}/" for page in ("change", "review"))
    assert "../review/" in page_of(desk.get(row))
    assert desk.post(review, {"verb": "suspend", "reason": " "}).status_code == 422
    assert state_of(node)[0] == "ready"
    assert desk.post(review, {"verb": "suspend", "reason": "It logs inputs."}).status_code == 302
    assert state_of(node) == ("suspended", "Suspended by staff: It logs inputs.")

    page = page_of(desk.get(review))
    assert "Suspended by staff: It logs inputs." in page
    assert "Let it serve again" in page
    assert desk.post(review, {"verb": "suspend", "reason": "Again."}).status_code == 200
    assert desk.post(review, {"verb": "reinstate", "reason": "Logs are off."}).status_code == 302

    assert state_of(node)[0] == "down"
    assert node.rated_since is not None
    assert {each.get_change_message() for each in LogEntry.objects.all()} == {
        "Suspend: It logs inputs.",
        "Let it serve again: Logs are off.",
    }


def test_nobody_else_reviews(client: Client, node: Node) -> None:
    stranger = verified(Wallet.objects.of("0x6666666666666666666666666666666666666666"))
    for browser in (client, stranger):
        answer = browser.post(
            f"/admin/mesh/node/{node.pk}/review/", {"verb": "suspend", "reason": "x"}
        )
        assert answer.status_code in (302, 404)
    assert state_of(node)[0] == "ready"


def test_suspending_or_reviewing_twice_is_refused(node: Node) -> None:
    with pytest.raises(Problem) as caught:
        services.reinstate(node=node)
    assert (caught.value.code, caught.value.status) == ("not-suspended", 409)
    services.suspend(node=node, reason="Why.")
    with pytest.raises(Problem) as caught:
        services.suspend(node=node, reason="Again.")
    assert (caught.value.code, caught.value.status) == ("already-suspended", 409)
    assert state_of(node) == ("suspended", "Why.")


def test_neither_a_start_nor_a_probe_nor_a_move_lifts_it(
    db: None, triton_nodes: list[dict[str, Any]], settings: Settings
) -> None:
    settings.ALLOW_LOOPBACK_NODES = True
    settings.TRITON_NODES = [{**triton_nodes[0], "endpoint": "http://elsewhere.invalid:1"}]
    (node,) = services.sync_configured_nodes()
    services.suspend(node=node, reason="Why.")
    # A live server, at last.
    settings.TRITON_NODES = triton_nodes[:1]
    services.sync_configured_nodes()
    probing.probe_all()
    assert state_of(node) == ("suspended", "Why.")
    services.reinstate(node=node)
    services.sync_configured_nodes()
    probing.probe_all()
    assert state_of(node) == ("ready", "")
