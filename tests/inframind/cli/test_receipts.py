"""A whole way through the running marketplace: wallet, login, token, call, receipt, usage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.inframind.cli.conftest import Infra
from tests.journeys.market import ROOT, Market

UNKNOWN = "0198c0de-0000-7000-8000-000000000000"
SENTENCES = "text=The first sentence is here. The second one follows it. A third ends it."


@pytest.fixture(scope="session")
def market() -> Market:
    """Running and stocked with three real models; shared by every worker of the run."""
    return Market.join()


class Shell:
    """A person's shell: a home folder, and what was exported."""

    def __init__(self, home: Path, url: str) -> None:
        home.mkdir()
        (home / "password").write_text("correct horse battery")
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "INFRA_URL": url,
            "INFRA_PASSWORD_FILE": str(home / "password"),
        }
        self.home = home

    def infra(self, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "inframind.cli", *arguments],
            env={**self.env, **({"INFRA_TOKEN": token} if token else {})},
            cwd=self.home, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def line(self, *arguments: str, token: str = "") -> str:
        done = self.infra(*arguments, token=token)
        assert done.returncode == 0, done.stderr
        [line] = done.stdout.splitlines()
        return line


def test_from_a_new_wallet_to_a_receipt(market: Market, tmp_path: Path) -> None:
    mine = Shell(tmp_path / "mine", market.url)
    address = json.loads(mine.line("wallet", "create", "--json"))["address"]
    assert json.loads(mine.line("login", "--json"))["address"] == address
    token = mine.line("token", "generate", "--model", "summarizer-v1", "--expires-in", "24h")
    called = mine.infra("call", "--model", "summarizer-v1", SENTENCES, "--json", token=token)
    assert called.returncode == 0, called.stderr
    receipt_id = json.loads(called.stderr)["receipt"]

    receipt = json.loads(mine.line("receipt", "show", receipt_id, "--json", token=token))
    assert (receipt["model"], receipt["outcome"], receipt["caller"]) == (
        "summarizer-v1@1.0.0",
        "served",
        address,
    )
    shown = mine.infra("receipt", "show", receipt_id).stdout.splitlines()
    assert f"Receipt     {receipt_id}" in shown
    assert "Outcome     served" in shown
    assert f"Stored CID  {receipt['cid']}" in shown
    usage = mine.infra("usage", "--days", "1").stdout.splitlines()
    assert usage[1].split("\t")[:3] == ["summarizer-v1", "1", "1"]
    other = mine.infra("call", "--model", "language-id-v1", SENTENCES, token=token)
    assert other.returncode == 4

    narrowed = mine.line("token", "narrow", "--calls", "1", token=token)
    assert mine.infra("call", "--model", "summarizer-v1", SENTENCES, token=narrowed).returncode == 0
    over = mine.infra("call", "--model", "summarizer-v1", SENTENCES, token=narrowed)
    assert (over.returncode, over.stdout) == (1, "")
    assert "Nothing was charged." in over.stderr
    assert mine.infra("call", "--model", "summarizer-v1", SENTENCES, token=token).returncode == 0
    assert mine.infra("logout").returncode == 0
    assert mine.infra("whoami").returncode == 4


def test_a_receipt_that_is_not_there_is_told(market: Market, tmp_path: Path) -> None:
    mine = Shell(tmp_path / "mine", market.url)
    outcome = mine.infra("receipt", "show", UNKNOWN)
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert "There is no receipt with this id." in outcome.stderr


def test_what_is_no_receipts_id_is_wrong_usage(infra: Infra) -> None:
    outcome = infra("receipt", "show", "7")
    assert (outcome.status, outcome.stdout) == (2, "")
