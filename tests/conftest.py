"""Real nodes and a real chain for tests that ask for them; ``tests.session`` starts the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from inframind.devstack.triton import Node
from tests import servers

if TYPE_CHECKING:
    from pytest_django import Settings

    from tests.chains import DevChain


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
def _chain_of_this_process() -> DevChain:
    # Only the tests that ask for a chain pay for importing its libraries.
    from tests.chains import deployed_chain

    return deployed_chain(servers.shared_chain())


@pytest.fixture
def chain(_chain_of_this_process: DevChain, settings: Settings) -> Iterator[DevChain]:
    """A real chain (anvil) with our contracts just deployed; ``settings`` name it.

    Whatever the test does to it, its clock included, is undone afterwards.
    """
    chain = _chain_of_this_process
    for name, value in chain.settings().items():
        setattr(settings, name, value)
    with chain.undone_afterwards():
        yield chain


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> Iterator[None]:
    """As pytest-django's, with a quick end of tests that commit; the gateway's connections end
    before their database does."""
    from marketplace.gateway import loop
    from tests import emptying

    emptying.instead_of_flush()
    yield
    loop.stop()
