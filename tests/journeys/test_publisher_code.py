"""Publisher code waits for a person, runs in the sandbox only, and is reviewed byte by byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.journeys.market import PUBLISHER, STAFF, Market, fresh_name, fresh_wallet

PLACES = sql.SQL(
    "SELECT node.name, placement.state FROM mesh_placement placement "
    "JOIN mesh_node node ON node.id = placement.node_id "
    "JOIN catalog_version version ON version.id = placement.version_id WHERE version.model_id = %s"
)
TEXT = {"text": "Bees dance. The dance tells where flowers are. Others follow it.", "sentences": 1}


@pytest.fixture
def name() -> str:
    return fresh_name("summarizer")


@pytest.fixture
def package(market: Market, name: str, tmp_path: Path) -> Path:
    return market.package("summarizer-v1", name, tmp_path)


def call(market: Market, reference: str, token: str = "") -> Any:
    with market.http(token) as http:
        return http.post(f"/inference/v1/{reference}", json=TEXT)


def test_code_waits_for_its_review_then_runs_in_the_sandbox(
    market: Market, name: str, package: Path
) -> None:
    registered = market.infra("register", "--model", str(package), token=market.publisher_token)
    assert registered.status == 0, registered.stderr
    assert "pending (Waiting for a code review of bafy" in registered.stdout
    assert call(market, name).status_code == 404
    owners = call(market, name, market.publisher_token)
    assert owners.status_code == 409
    assert "Waiting for a code review" in owners.json()["detail"]
    assert market.rows(PLACES, name) == []

    approved = market.approve(f"{name}@1.0.0")
    assert approved.status == 0, approved.stderr
    document = market.await_state(name)
    assert [badge["kind"] for badge in document["badges"]] == [
        "agent-compatible",
        "hash-verified",
        "schema-validated",
    ]
    [(checked_on,)] = market.rows(
        sql.SQL(
            "SELECT DISTINCT run.node_name FROM catalog_verification run "
            "JOIN catalog_version version ON version.id = run.version_id "
            "WHERE version.model_id = %s AND run.state = 'passed'"
        ),
        name,
    )
    assert checked_on == "sandbox"

    answer = call(market, name)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Inframind-Node"] == "sandbox"
    assert answer.json()["sentences"][0] in str(TEXT["text"])
    assert market.rows(PLACES, name) == [("sandbox", "ready")]


def test_refused_code_never_runs_and_its_owner_reads_why(
    market: Market, name: str, package: Path
) -> None:
    market.register(package)
    refused = market.manage(
        "review_version",
        f"{name}@1.0.0",
        "--refuse",
        "--reviewer",
        STAFF,
        "--note",
        "It phones home",
    )
    assert refused.status == 0, refused.stderr

    answer = call(market, name, market.publisher_token)
    assert answer.status_code == 409
    assert "It phones home" in answer.json()["detail"]
    verified = market.infra("model", "verify", name, token=market.publisher_token)
    assert "It phones home" in verified.stdout + verified.stderr
    assert market.rows(PLACES, name) == []


def test_one_changed_byte_needs_a_review_of_its_own(
    market: Market, name: str, package: Path
) -> None:
    first = market.register(package)
    assert market.approve(f"{name}@1.0.0").status == 0
    market.await_state(name)

    code = package / "summarizer.py"
    code.write_bytes(code.read_bytes() + b"\n")
    manifest = package / "model.yaml"
    manifest.write_text(manifest.read_text().replace("version: 1.0.0", "version: 1.0.1"))
    second = market.register(package)

    assert second["cid"] != first["cid"]
    assert second["state"] == "pending"
    assert "Waiting for a code review" in second["state_reason"]
    assert call(market, f"{name}@1.0.1").status_code == 404
    assert call(market, name).headers["Inframind-Model"] == f"{name}@1.0.0"


def test_nobody_approves_their_own_code_nor_without_being_staff(
    market: Market, name: str, tmp_path: Path
) -> None:
    token = market.token(STAFF, "publish", "invoke")
    market.register(market.package("summarizer-v1", name, tmp_path), token=token)

    own = market.approve(f"{name}@1.0.0", by=STAFF)
    assert own.status == 1
    assert "own" in own.stderr
    for stranger in (PUBLISHER, fresh_wallet()):
        refused = market.approve(f"{name}@1.0.0", by=stranger)
        assert (refused.status, refused.stdout) == (1, "")
    reviews = sql.SQL(
        "SELECT count(*) FROM catalog_codereview review JOIN catalog_version version "
        "ON version.cid = review.cid WHERE version.model_id = %s"
    )
    assert market.rows(reviews, name) == [(0,)]
    assert call(market, name, token).status_code == 409
