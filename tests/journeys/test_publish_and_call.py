"""A newcomer publishes a real model, sees it verified, takes it home again and has it called."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from psycopg import sql

from inframind.cli.packing import scan
from tests.journeys.market import Market, fresh_name, fresh_wallet

SCRIPT = b"import sys\n\ndef main():\n    print(sys.argv)\n"
BADGES = ["agent-compatible", "hash-verified", "schema-validated"]


def cid_of(folder: Path) -> str:
    package = scan(folder)
    for _ in package.stream():
        pass
    return package.cid


def test_from_a_token_to_a_called_model(market: Market, tmp_path: Path) -> None:
    name, wallet = fresh_name("filetype"), fresh_wallet()
    folder = market.package("filetype-v1", name, tmp_path)
    cid = cid_of(folder)

    refused = market.infra("register", "--model", str(folder))
    assert (refused.status, refused.stdout) == (4, "")
    assert "INFRA_TOKEN" in refused.stderr

    token = market.token(wallet, "publish", "invoke")
    assert token.startswith("infra_")
    registered = market.infra("register", "--model", str(folder / "model.yaml"), token=token)
    assert registered.status == 0, registered.stderr
    assert registered.stdout.splitlines() == [
        f"Model     {name}@1.0.0",
        f"CID       {cid}",
        f"Endpoint  {market.url}/inference/v1/{name}",
        "State     active",
        "Checks    6 of 6 passed",
        f"Badges    {', '.join(BADGES)}",
    ]
    assert "✓ Examples give their golden outputs 3/3" in registered.stderr
    [(cases,)] = market.rows(
        sql.SQL(
            "SELECT cases_total FROM catalog_check WHERE kind = 'generated' AND cid = %s "
            "AND passed AND cases_passed = cases_total"
        ),
        cid,
    )
    assert cases >= 25

    again = market.infra("register", "--model", str(folder), "--json", token=token).json()
    assert (again["created"], again["cid"], again["state"]) == (False, cid, "active")

    listed = market.infra("model", "list", name, "--json").json()
    assert [each["name"] for each in listed] == [name]
    assert market.infra("model", "show", name).status == 0
    shown = market.infra("model", "show", name, "--json").json()
    assert [badge["kind"] for badge in shown["badges"]] == BADGES
    verified = market.infra("model", "verify", name, "--json").json()
    assert (verified["computed_cid"], verified["verification"]["state"]) == (cid, "passed")

    exported = market.infra("model", "export", name, "--output", "home", home=tmp_path)
    assert exported.status == 0, exported.stderr
    assert cid_of(tmp_path / "home") == cid
    returned = market.infra("register", "--model", str(tmp_path / "home"), "--json", token=token)
    assert (returned.json()["created"], returned.json()["cid"]) == (False, cid)

    (tmp_path / "tool").write_bytes(SCRIPT)
    called = market.infra("call", "--model", name, "content@tool", home=tmp_path)
    assert called.status == 0, called.stderr
    assert called.json()["label"] == "python"
    assert f"{name}@1.0.0 · on node-" in called.stderr
    assert "fee 0 IFM" in called.stderr


@pytest.fixture(scope="module")
def picture(market: Market) -> dict[str, Any]:
    """The input document of filetype-v1's example that holds a PNG."""
    document, output = market.example("filetype-v1", 1)
    assert output["label"] == "png"
    return cast(dict[str, Any], document)


@pytest.fixture(scope="module")
def called(market: Market, picture: dict[str, Any]) -> Any:
    """One answer of filetype-v1 to a plain program without a token."""
    with market.http() as http:
        return http.post("/inference/v1/filetype-v1@1.0", json=picture)


def test_an_answer_says_what_it_was_and_what_it_cost(called: Any) -> None:
    assert called.status_code == 200
    assert (called.json()["label"], called.json()["mime_type"]) == ("png", "image/png")
    headers = called.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["Inframind-Model"] == "filetype-v1@1.0.0"
    assert headers["Inframind-Fee"] == "0 IFM"
    assert headers["Inframind-Node"] in {"node-a", "node-b"}
    assert UUID(headers["Inframind-Receipt"]).version == 7
    assert re.fullmatch(
        r"admit;dur=[\d.]+, node;dur=[\d.]+, total;dur=[\d.]+", headers["Server-Timing"]
    )
    assert re.fullmatch(r'"anonymous";r=\d+;t=\d+', headers["RateLimit"])
    assert headers["RateLimit-Policy"] == '"anonymous";q=6000;w=60'
    assert not {"Deprecation", "Sunset", "Link"} & {name.title() for name in headers}


def test_the_receipt_can_be_read_by_program_and_person(market: Market, called: Any) -> None:
    receipt = called.headers["Inframind-Receipt"]
    with market.http() as http:
        document = http.get(f"/api/v1/receipts/{receipt}").json()
        page = http.get(f"/receipts/{receipt}")
    assert document["id"] == receipt
    assert (document["model"], document["outcome"]) == ("filetype-v1@1.0.0", "served")
    assert document["fee"] == {"base_units": "0", "text": "0 IFM"}
    assert document["node"] == called.headers["Inframind-Node"]
    assert "caller" not in document
    assert page.status_code == 200
    assert receipt in page.text
    assert "filetype-v1@1.0.0" in page.text
    assert called.headers["Inframind-Node"] in page.text


def test_diagnostics_count_served_calls_and_not_the_callers_mistakes(
    market: Market, picture: dict[str, Any], tmp_path: Path
) -> None:
    name = fresh_name("filetype")
    market.register(market.package("filetype-v1", name, tmp_path))
    market.await_state(name)

    def window() -> dict[str, Any]:
        found: dict[str, Any] = http.get(f"/api/v1/models/{name}/diagnostics").json()["windows"][0]
        return found

    with market.http() as http:
        before = window()
        assert (before["calls"], before["success_rate"], before["p50_ms"]) == (0, None, None)
        for _ in range(19):
            assert http.post(f"/inference/v1/{name}", json=picture).status_code == 200
        assert http.post(f"/inference/v1/{name}", json={}).status_code == 422
        few = window()
        assert (few["calls"], few["served"], few["success_rate"]) == (19, 19, None)
        http.post(f"/inference/v1/{name}", json=picture)
        enough = window()
    assert (enough["calls"], enough["served"], enough["success_rate"]) == (20, 20, 1.0)
    assert 0 < enough["p50_ms"] <= enough["p95_ms"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"content": 7}', "/content"),
        (b'{"content": "not base64!"}', "/content"),
        (b'{"content": "aGVsbG8=", "extra": 1}', ""),
        (b"{}", ""),
        (b'["aGVsbG8="]', ""),
        (b'{"content": "aGVsbG8=", "content": "aGVsbG8="}', "/content"),
        (b'{"content": NaN}', ""),
        (b"not json", ""),
        (b"", ""),
        (b"[" * 1000, ""),
    ],
)
def test_a_bad_input_is_refused_with_its_place(market: Market, body: bytes, pointer: str) -> None:
    with market.http() as http:
        answer = http.post(
            "/inference/v1/filetype-v1", content=body, headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Inframind-Fee"] == "0 IFM"
    assert "Inframind-Node" not in answer.headers
    problem = answer.json()
    assert (problem["charged"], problem["status"]) == (False, 422)
    assert [each["pointer"] for each in problem["violations"]] == [pointer]
