"""The mesh of the tests: real Triton nodes, known to the database of each test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from inframind.devstack.triton import Node as Server
from marketplace.gateway import loop
from marketplace.mesh import services
from marketplace.mesh.models import Node


@pytest.fixture
def mesh(
    transactional_db: None, triton_nodes: list[dict[str, Any]], settings: Any, tmp_path: Path
) -> Iterator[list[Node]]:
    """The run's shared nodes, registered and ready, by name."""
    with joined(triton_nodes, settings, tmp_path) as nodes:
        yield nodes


@pytest.fixture
def private_mesh(
    transactional_db: None,
    private_triton_node: Server,
    second_private_triton_node: Server,
    settings: Any,
    tmp_path: Path,
) -> Iterator[list[Server]]:
    """Two trusted servers of this test alone, registered and ready: to kill and restart."""
    servers = [private_triton_node, second_private_triton_node]
    with joined([server.document() for server in servers], settings, tmp_path):
        yield servers


@contextmanager
def joined(documents: list[dict[str, Any]], settings: Any, folder: Path) -> Iterator[list[Node]]:
    settings.TRITON_NODES = documents
    settings.ALLOW_LOOPBACK_NODES = True
    settings.STORE_DIR = folder / "store"
    settings.LOAD_DEADLINE_SECONDS = 20
    cache.clear()
    services.sync_configured_nodes()
    services.probe_all()
    yield list(Node.objects.order_by("name"))
    # Connections to a database that goes with the test must not outlive it.
    loop.stop()
