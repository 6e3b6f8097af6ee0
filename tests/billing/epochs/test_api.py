"""What is published of an epoch, over HTTP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from django.test import Client

from billing.epochs import services
from inframind.lib.cid import parse_cid
from inframind.storage import dumps
from tests.billing.epochs.keeper import IFM, Keeper, Kept, address, record

CALLS = [Kept(address(1), address(11), address(21), "summarizer-v1", "node-a", IFM // 4)] * 5


def test_the_dumps_come_as_they_lie_in_the_store_and_may_be_kept_for_good(keeper: Keeper) -> None:
    number = record(CALLS)
    epoch = services.close(at_once=True)
    for name, cid, kind in (
        ("tree", epoch.tree_cid, "application/json"),
        ("receipts", epoch.receipts_cid, "application/x-ndjson"),
    ):
        answer = Client().get(f"/api/v1/epochs/{number}/{name}", headers={"Accept": "text/html"})
        assert answer.status_code == 200
        body = answer.getvalue()
        assert body == b"".join(dumps.read(cid))
        assert answer.headers["Inframind-Cid"] == cid
        assert answer.headers["Content-Type"] == kind
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert parse_cid(cid)
        again = Client().get(
            f"/api/v1/epochs/{number}/{name}", headers={"If-None-Match": answer.headers["ETag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
    tree = json.loads(b"".join(dumps.read(epoch.tree_cid)))
    assert tree["format"] == "standard-v1"


@pytest.mark.parametrize("name", ["tree", "receipts"])
def test_nothing_is_published_of_an_epoch_that_is_open(keeper: Keeper, name: str) -> None:
    number = record(CALLS)
    answer = Client().get(f"/api/v1/epochs/{number}/{name}")
    assert (answer.status_code, answer.json()["type"]) == (409, "/problems/epoch-not-sealed")


@pytest.mark.parametrize("number", ["77", "9" * 30])
@pytest.mark.parametrize("name", ["tree", "receipts"])
def test_an_epoch_that_never_was_is_not_found(keeper: Keeper, number: str, name: str) -> None:
    answer = Client().get(f"/api/v1/epochs/{number}/{name}")
    assert answer.status_code == 404


def test_a_dump_that_is_gone_is_told_with_its_cid(keeper: Keeper, store_dir: Path) -> None:
    number = record(CALLS)
    epoch = services.close(at_once=True)
    shutil.rmtree(store_dir)
    answer = Client().get(f"/api/v1/epochs/{number}/tree")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/dump-unavailable")
    assert epoch.tree_cid in answer.json()["detail"]
    assert "Cache-Control" not in answer.headers
