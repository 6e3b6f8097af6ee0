"""Real Triton nodes for the tests that ask for them; ``tests.session`` starts the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from inframind.devstack.triton import Node
from tests import servers


@pytest.fixture(scope="session")
def triton_nodes() -> list[dict[str, Any]]:
    """node-a, node-b and sandbox, running, as entries of ``settings.TRITON_NODES`` (set, too).

    They are shared with other workers: never stop them, and give models names of your own.
    """
    from django.conf import settings

    nodes = servers.shared_nodes()
    settings.TRITON_NODES = nodes
    return nodes


@pytest.fixture
def private_triton_node() -> Iterator[Node]:
    """A trusted node of this test alone: ``kill()``, ``stop()``, ``restart()``, ``document()``."""
    with servers.private_node() as node:
        yield node


@pytest.fixture
def second_private_triton_node() -> Iterator[Node]:
    """Another one, for what happens between two."""
    with servers.private_node(name="private-two") as node:
        yield node


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """As pytest-django's; the gateway's connections end before their database does."""
    from marketplace.gateway import loop

    yield
    loop.stop()
