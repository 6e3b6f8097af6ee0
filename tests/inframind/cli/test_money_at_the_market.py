"""Money through the command alone: faucet, deposit, call, claim, verification, withdrawal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from inframind.lib.amounts import parse_ifm
from tests.inframind.cli.test_receipts import Shell
from tests.journeys.market import PUBLISHER, Market

pytestmark = pytest.mark.xdist_group("money")

# The first account of the development chain's well-known mnemonic: it owns the seeded models.
PUBLISHER_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
MODEL = "language-id-v1"
FEE = parse_ifm("0.01")
CLAIMABLE_SECONDS = 90


@pytest.fixture(scope="session")
def market() -> Market:
    """Running and stocked; shared by every worker of the run."""
    return Market.join()


def base_units(amount: dict[str, str]) -> int:
    return int(amount["base_units"])


def document(shell: Shell, *arguments: str) -> Any:
    done = shell.infra(*arguments, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def closed(market: Market, number: int) -> None:
    """Closes an epoch and waits until what was earned can be claimed."""
    done = market.manage("close_epoch")
    assert done.status == 0, done.stderr
    deadline = time.monotonic() + CLAIMABLE_SECONDS
    with market.http() as http:
        while (found := http.get(f"/api/v1/epochs/{number}").json())["state"] != "claimable":
            assert time.monotonic() < deadline, found
            time.sleep(0.3)


def test_from_the_faucet_to_a_withdrawal(market: Market, tmp_path: Path) -> None:
    mine = Shell(tmp_path / "mine", market.url)
    mine.env["INFRA_RPC_URL"] = market.bank.rpc_url
    address = json.loads(mine.line("wallet", "create", "--json"))["address"]
    mine.line("login", "--json")

    poor = mine.infra("call", "--model", MODEL, "text=Guten Morgen zusammen.")
    assert (poor.returncode, poor.stdout) == (1, "")
    assert "infra deposit" in poor.stderr

    # A new wallet has nothing at all: the faucet gives, the server sends.
    first = document(mine, "deposit", "2IFM", "--faucet", "--relay", "--yes")
    assert (first["state"], first["balance"]["text"]) == ("credited", "2 IFM")
    # By now it has gas of its own.
    second = document(mine, "deposit", "1 IFM", "--yes")
    assert (second["state"], second["balance"]["text"]) == ("credited", "3 IFM")
    assert document(mine, "balance")["wallet"] == address

    Path(mine.home / "in.json").write_text('{"text": "Das Wetter ist heute schön."}')
    called = mine.infra("call", "--model", MODEL, "--input", "in.json", "--json")
    assert called.returncode == 0, called.stderr
    Path(mine.home / "out.json").write_text(called.stdout)
    receipt_id = json.loads(called.stderr)["receipt"]
    balance = document(mine, "balance")
    assert base_units(balance["balance"]) == parse_ifm("3") - FEE
    assert document(mine, "usage")["by_model"][0]["model"] == MODEL

    documents = ("--input", "in.json", "--output", "out.json")
    early = document(mine, "receipt", "verify", receipt_id, *documents)
    assert [each["passed"] for each in early["checks"]] == [True, True, True, True, None, None]
    receipt = document(mine, "receipt", "show", receipt_id)
    (mine.home / "receipt.json").write_text(json.dumps(receipt))

    closed(market, receipt["epoch"])
    late = document(mine, "receipt", "verify", "receipt.json", *documents)
    assert [each["passed"] for each in late["checks"]] == [True] * 7
    stranger = market.infra("receipt", "verify", receipt_id, "--json").json()
    assert [each["passed"] for each in stranger["checks"]] == [True, None, True, True, True]

    verified = document(mine, "rewards", "verify", "--epoch", str(receipt["epoch"]))
    assert [each["passed"] for each in verified["checks"]] == [True] * 8
    assert int(verified["revenue"]) >= FEE

    owner = Shell(tmp_path / "owner", market.url)
    owner.env["INFRA_PRIVATE_KEY"] = PUBLISHER_KEY
    owner.line("login", "--json")
    before = document(owner, "rewards", "status", "--model", MODEL)
    assert before["wallet"] == PUBLISHER
    claimed = document(owner, "rewards", "claim", "--model", MODEL, "--yes")
    assert claimed["claimed"] == before["claimable"]
    assert (claimed["state"], len(claimed["transactions"])) == ("claimed", 1)
    assert base_units(document(owner, "rewards", "status", "--model", MODEL)["claimable"]) == 0
    again = document(owner, "rewards", "claim", "--model", MODEL, "--yes")
    assert (base_units(again["claimed"]), again["transactions"]) == (0, [])

    out = document(mine, "withdraw", "1IFM", "--yes")
    assert (out["state"], base_units(out["balance"])) == ("paid", parse_ifm("2") - FEE)
    rest = document(mine, "withdraw", "0.5IFM", "--relay", "--yes")
    assert (rest["state"], base_units(rest["balance"])) == ("paid", parse_ifm("1.5") - FEE)
