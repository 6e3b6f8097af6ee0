"""The contracts of one test."""

from __future__ import annotations

import pytest

from tests.billing.contracts.onchain import Contracts
from tests.chains import DevChain


@pytest.fixture
def contracts(chain: DevChain) -> Contracts:
    """Deployed as the embedded stack does it: no challenge time."""
    return Contracts(chain, chain.ifm, chain.settlement)
