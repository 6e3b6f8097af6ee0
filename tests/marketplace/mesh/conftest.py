"""The mesh of the tests: the session's real Triton nodes, known to the database of each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache

from marketplace.gateway import loop
from marketplace.mesh import services
from marketplace.mesh.models import Node


@pytest.fixture
def mesh(
    transactional_db: None, triton_nodes: Any, settings: Any, tmp_path: Any
) -> Iterator[list[Node]]:
    """Every node of the session, registered and ready; their rows by name."""
    settings.TRITON_NODES = [node.document() for node in triton_nodes]
    settings.ALLOW_LOOPBACK_NODES = True
    settings.STORE_DIR = tmp_path / "store"
    settings.LOAD_DEADLINE_SECONDS = 20
    cache.clear()
    services.sync_configured_nodes()
    services.probe_all()
    yield list(Node.objects.order_by("name"))
    # Connections to a database that goes with the test must not outlive it.
    loop.stop()
