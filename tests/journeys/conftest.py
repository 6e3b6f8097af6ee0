"""The marketplace that the stories happen in."""

from __future__ import annotations

import pytest

from tests.journeys.market import Market


@pytest.fixture(scope="session")
def market() -> Market:
    """Running and stocked with three real models; shared by every worker of the run."""
    return Market.join()
