"""What whoever runs the marketplace relies on: a sound configuration, probes and metrics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.test import Client

from tests.journeys.market import ROOT, Market


def production(market: Market, tmp_path: Path, **changes: str) -> dict[str, str]:
    """The environment of a server behind its own name; nothing of the test's own is in it."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": market.database_url,
        "REDIS_URL": market.env["REDIS_URL"],
        "SECRET_KEY": "k" * 12 + "Zb81-vQ0pW_3xLr9sTn5cYhM7uJd2eFaG4iKo6" * 2,
        "SITE_URL": "https://models.example.org",
        "ALLOWED_HOSTS": "models.example.org",
        "STORE_DIR": str(tmp_path / "store"),
        "STATIC_ROOT": str(tmp_path / "static"),
        **changes,
    }


def manage(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "manage.py", *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_production_configuration_is_clean(market: Market, tmp_path: Path) -> None:
    env = production(market, tmp_path)
    checked = manage(env, "check", "--deploy", "--fail-level", "WARNING")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == "System check identified no issues (0 silenced).\n"


def test_models_and_migrations_agree(market: Market, tmp_path: Path) -> None:
    made = manage(production(market, tmp_path), "makemigrations", "--check", "--dry-run")
    assert (made.returncode, made.stdout) == (0, "No changes detected\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PACKAGE_MAX_BYTES", "much"),
        ("CALL_DEADLINE_SECONDS", "0"),
        ("DATABASE_URL", "mysql://here/x"),
        ("TRITON_NODES", "{"),
        ("DEBUG", "maybe"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named(
    market: Market, tmp_path: Path, name: str, value: str
) -> None:
    checked = manage(production(market, tmp_path, **{name: value}), "check")
    assert checked.returncode == 1
    assert f"EnvironmentProblem: {name} must " in checked.stderr


def test_alive_and_ready_while_all_parts_are_there(market: Market) -> None:
    with market.http() as http:
        alive, ready = http.get("/livez"), http.get("/readyz")
    assert (alive.status_code, alive.text) == (200, "ok")
    assert ready.status_code == 200
    assert ready.json() == {
        "ready": True,
        "parts": {"database": "ok", "nodes": "ok", "redis": "ok"},
    }


@pytest.mark.django_db
def test_without_a_node_it_is_alive_and_says_what_is_missing(client: Client) -> None:
    assert client.get("/livez").status_code == 200
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["ready"] is False
    assert answer.json()["parts"]["nodes"] == "no node is ready"


def test_metrics_are_in_prometheus_words(market: Market) -> None:
    with market.http() as http:
        answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "# TYPE django_http_requests_total_by_method_total counter" in answer.text


def test_every_answer_guards_the_browser(market: Market) -> None:
    with market.http() as http:
        page = http.get("/models")
        again = http.get("/models", headers={"X-Request-Id": "a-request-of-mine"})
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert "Server" not in page.headers
    assert again.headers["X-Request-Id"] == "a-request-of-mine"
