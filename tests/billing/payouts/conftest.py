"""The chain's people, and a keeper of receipts in place of the gateway's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.cache import cache

from tests.billing.epochs.conftest import committed_keeper, keeper, store_dir
from tests.billing.payouts.acts import People
from tests.chains import DevChain

__all__ = ["committed_keeper", "keeper", "people", "store_dir"]


@pytest.fixture
def people(chain: DevChain) -> Iterator[People]:
    cache.clear()
    yield People(chain)
    # What waits to be mined is no part of what is undone after the test.
    chain.rpc("anvil_dropAllTransactions")
