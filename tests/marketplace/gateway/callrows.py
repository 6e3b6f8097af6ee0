"""Nodes, and rows of calls that they were given, as the gateway writes them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from billing.epochs import opening
from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from marketplace.mesh.models import Node
from marketplace.mesh.services import HOUSE_OPERATOR

_DIGEST = f"sha256:{'ab' * 32}"


def node_called(name: str, **more: Any) -> Node:
    """A node that is ready; nothing answers there."""
    return Node.objects.create(
        name=name,
        operator=Wallet.objects.of(HOUSE_OPERATOR),
        endpoint=f"http://{name}.invalid:8000",
        **{"state": "ready", "backends": ["python"], "trusted": True, **more},
    )


def call_row(version: Version, node: Node | None, outcome: str = "served", **more: Any) -> Call:
    """A free call that has just ended, not written yet; ``age`` is how long ago it was."""
    return call_rows(1, version, node, outcome, **more)[0]


def call_rows(
    count: int, version: Version, node: Node | None, outcome: str = "served", **more: Any
) -> list[Call]:
    """So many such calls, alike and of one moment."""
    age = more.pop("age", timedelta(0))
    served = outcome == "served"
    given: dict[str, Any] = {
        "version": version,
        "node": node,
        "node_name": node.name if node else "",
        "outcome": outcome,
        "problem_code": "" if served else outcome,
        "attempts": 1,
        "latency_us": 5_000,
        "node_latency_us": 4_000,
        "input_digest": _DIGEST,
        "output_digest": _DIGEST if served else "",
        "created_at": now() - age,
        "epoch": opening.current().number,
        "parameters_version": 1,
        "payout_address": version.payout_address,
        "salt": b"",
        "batch_id": new_uuid7(),
        "batch_index": 0,
    }
    return [Call(**{"id": new_uuid7(), **given, **more}) for _ in range(count)]


def written(calls: Iterable[Call]) -> list[Call]:
    """Writes them without a batch, and without a charge."""
    return Call.objects.bulk_create(list(calls))


def now() -> datetime:
    """The time of the clock that stamps calls."""
    return opening.database_time()
