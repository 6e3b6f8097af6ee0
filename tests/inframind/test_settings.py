"""Settings: every variable is documented, every reader says what it wanted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inframind.env import Environment, EnvironmentProblem

ROOT = Path(__file__).resolve().parents[2]


def test_every_variable_that_settings_read_is_documented_and_no_other() -> None:
    source = (ROOT / "inframind" / "settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
    documented = set(
        re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    )
    assert documented == read


@pytest.mark.parametrize(
    ("values", "read", "message"),
    [
        ({}, lambda e: e.text("REDIS_URL"), "REDIS_URL is not set. Start the embedded stack"),
        ({"DEBUG": "maybe"}, lambda e: e.flag("DEBUG", False), "DEBUG must be 1 or 0, not 'maybe'"),
        ({"N": "many"}, lambda e: e.integer("N", 1), "N must be a whole number, not 'many'"),
        ({"N": "0"}, lambda e: e.integer("N", 1, minimum=1), "N must be at least 1, not 0"),
        ({"T": "[1,"}, lambda e: e.document("T", []), "T must be JSON"),
        ({"D": "mysql://x/y"}, lambda e: e.postgres("D"), "D must start with postgresql://"),
    ],
)
def test_a_malformed_variable_is_named_with_what_it_should_be(
    values: dict[str, str], read: object, message: str
) -> None:
    with pytest.raises(EnvironmentProblem, match=re.escape(message)):
        read(Environment(values))  # type: ignore[operator]


def test_a_database_url_with_a_socket_folder() -> None:
    url = "postgresql://post%40gres:@/market?host=/tmp/a%20b&port=5433"
    assert Environment({"D": url}).postgres("D") == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "market",
        "USER": "post@gres",
        "PASSWORD": "",
        "HOST": "/tmp/a b",
        "PORT": "5433",
        "OPTIONS": {},
    }


def test_a_running_stack_fills_gaps_only_where_no_database_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = tmp_path / "stack.json"
    stack.write_text(
        json.dumps({"env": {"DATABASE_URL": "postgresql:///s", "REDIS_URL": "redis://s"}})
    )
    monkeypatch.setenv("REDIS_URL", "redis://given")
    monkeypatch.setenv("DATABASE_URL", "postgresql:///given")
    assert Environment.of_process(stack).text("DATABASE_URL") == "postgresql:///given"
    monkeypatch.delenv("DATABASE_URL")
    found = Environment.of_process(stack)
    assert found.text("DATABASE_URL") == "postgresql:///s"
    assert found.text("REDIS_URL") == "redis://given"
