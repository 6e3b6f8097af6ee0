"""What `pip install .` brings: the command, and nothing of the server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SERVERS_ONLY = ("django", "celery", "redis", "psycopg", "uvicorn", "web3", "tritonclient", "numpy")


def test_the_package_is_the_client_and_the_pure_rules() -> None:
    assert PROJECT["tool"]["setuptools"]["packages"] == [
        "inframind",
        "inframind.cli",
        "inframind.lib",
    ]
    assert PROJECT["project"]["scripts"] == {"infra": "inframind.cli.main:run"}


def test_the_command_asks_for_nothing_of_the_server() -> None:
    wanted = PROJECT["project"]["dependencies"]
    names = [re.split(r"[^a-z0-9-]", each.lower())[0] for each in wanted]
    assert names == [
        "httpx", "typer", "rich", "pyyaml", "eth-account", "coincurve", "safe-pysha3",
    ]  # fmt: skip
    assert not set(names) & set(SERVERS_ONLY)


@pytest.mark.drill
def test_a_fresh_environment_gets_the_command_and_no_django(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "INFRA_URL": "http://127.0.0.1:1"}
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    # A copy of what a build needs, so that no build leaves anything in the checkout.
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in PROJECT["tool"]["setuptools"]["packages"]:
        folder = source / package.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for path in (ROOT / package.replace(".", "/")).iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
    subprocess.run(
        [str(environment / "bin/pip"), "install", "--quiet", "--no-input", str(source)],
        check=True,
    )

    def infra(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(environment / "bin/infra"), *arguments],
            env=env | more, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip

    assert "First steps:" in infra("--help").stdout
    (tmp_path / "password").write_text("correct horse battery")
    made = infra("wallet", "create", INFRA_PASSWORD_FILE=str(tmp_path / "password"))
    assert (made.returncode, made.stderr) == (0, "")
    assert infra("whoami").returncode == 4
    listed = subprocess.run(
        [str(environment / "bin/pip"), "list", "--format=freeze"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = {line.partition("==")[0].lower() for line in listed.stdout.splitlines()}
    assert "inframind" in installed
    assert not installed & set(SERVERS_ONLY)
