"""From a deposit to a claim and a withdrawal, and what an auditor can check without us."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.journeys.bank import IFM
from tests.journeys.market import PUBLISHER, Market, fresh_name
from tests.journeys.purse import Purse

pytestmark = pytest.mark.xdist_group("money")
FEE = IFM // 100
TEXT = {"text": "Das Wetter ist heute schön und wir fahren an den See."}
OWNERS_SHARE = 6_000
CLAIMABLE_SECONDS = 60


@dataclass
class Story:
    """One model, its owner, and a caller who has 2 IFM of prepaid balance."""

    market: Market
    model: str
    owner: Purse
    caller: Purse

    def call(self, document: Any = TEXT, **headers: str) -> Any:
        with self.caller.http() as http:
            return http.post(f"/inference/v1/{self.model}", json=document, headers=headers)

    def close(self) -> int:
        """Closes the open epoch and waits until its root can be claimed against; its number."""
        [(number,)] = self.market.rows(
            sql.SQL("SELECT number FROM epochs_epoch WHERE state = 'open'")
        )
        closed = self.market.manage("close_epoch")
        assert closed.status == 0, closed.stderr
        deadline = time.monotonic() + CLAIMABLE_SECONDS
        while (epoch := self.caller.get(f"/api/v1/epochs/{number}"))["state"] != "claimable":
            assert time.monotonic() < deadline, epoch
            time.sleep(0.2)
        return int(number)


@pytest.fixture(scope="module")
def story(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    owner = Purse.of_somebody(market, folder / "owner")
    caller = Purse.of_somebody(market, folder / "caller", ifm=3)
    name = fresh_name("language-id")
    package = market.package("language-id-v1", name, folder)
    manifest = package / "model.yaml"
    manifest.write_text(manifest.read_text().replace(PUBLISHER, owner.address))
    market.register(package, token=owner.token)
    market.await_state(name, token=owner.token)
    caller.infra("deposit", "2IFM", "--yes", "--no-input")
    return Story(market, name, owner, caller)


def test_a_deposit_is_balance_once_it_is_confirmed(story: Story) -> None:
    assert (story.caller.balance(), story.caller.in_hand()) == (2 * IFM, 1 * IFM)
    [deposit] = story.caller.get("/api/v1/account/deposits")["results"]
    assert (deposit["state"], deposit["amount"]["text"]) == ("credited", "2 IFM")
    shown = story.caller.infra("balance", "--json").json()
    assert (shown["wallet"], shown["balance"]["text"]) == (story.caller.address, "2 IFM")


def test_only_an_answer_costs_and_a_key_costs_once(story: Story) -> None:
    before = story.caller.balance()
    assert story.call({"text": ""}).status_code == 422
    assert story.caller.balance() == before
    answer = story.call()
    assert (answer.status_code, answer.headers["Inframind-Fee"]) == (200, "0.01 IFM")
    assert story.caller.balance() == before - FEE
    first, again = (story.call(**{"Idempotency-Key": "once"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert again.headers["Inframind-Receipt"] == first.headers["Inframind-Receipt"]
    assert story.call({"text": "Bonjour"}, **{"Idempotency-Key": "once"}).status_code == 422
    assert story.caller.balance() == before - 2 * FEE


def test_whoever_has_no_balance_is_told_the_price_and_how_to_pay(
    story: Story, tmp_path: Path
) -> None:
    poor = Purse.of_somebody(story.market, tmp_path / "poor")
    with poor.http() as http:
        refused = http.post(f"/inference/v1/{story.model}", json=TEXT)
        free = http.post("/inference/v1/summarizer-v1", json=TEXT)
    problem = refused.json()
    assert (refused.status_code, problem["charged"]) == (402, False)
    assert problem["price"] == {"base_units": str(FEE), "text": "0.01 IFM"}
    assert "/account/balance" in refused.text
    assert (free.status_code, free.headers["Inframind-Fee"]) == (200, "0 IFM")


@pytest.fixture(scope="module")
def closed(story: Story) -> Closed:
    """An epoch with seven calls of the story, closed and claimable."""
    receipts = [story.call().headers["Inframind-Receipt"] for _ in range(7)]
    [(calls, fees)] = story.market.rows(_CALLS_SO_FAR, story.model)
    return Closed(story.close(), receipts, int(calls), int(fees))


@dataclass(frozen=True)
class Closed:
    """``calls`` and ``fees`` are all of the story's model so far."""

    number: int
    receipts: list[str]
    calls: int
    fees: int


_CALLS_SO_FAR = sql.SQL(
    "SELECT count(*), sum(call.fee_base_units) FROM gateway_call call"
    " JOIN catalog_version version ON version.id = call.version_id"
    " WHERE version.model_id = %s AND call.outcome = 'served'"
)


def test_a_closed_epoch_owes_the_owner_their_share_of_exactly_the_fees(
    story: Story, closed: Closed
) -> None:
    assert closed.fees == closed.calls * FEE
    rewards = story.owner.get("/api/v1/rewards")
    [reward] = rewards["results"]
    assert (rewards["wallet"], reward["subject"]) == (story.owner.address, f"model:{story.model}")
    assert int(reward["cumulative"]["base_units"]) == closed.fees * OWNERS_SHARE // 10_000
    assert int(rewards["claimable"]["base_units"]) == closed.fees * OWNERS_SHARE // 10_000


def test_receipt_and_root_are_verified_by_anybody(story: Story, closed: Closed) -> None:
    for receipt in closed.receipts[:2]:
        story.caller.infra("receipt", "verify", receipt)
    stranger = story.market.infra("receipt", "verify", closed.receipts[0])
    assert stranger.status == 0, stranger.stderr
    rewards = story.market.infra("rewards", "verify", "--epoch", str(closed.number))
    assert rewards.status == 0, rewards.stderr
    with story.market.http() as http:
        seen = http.get(f"/api/v1/receipts/{closed.receipts[0]}").json()
    assert (seen["whole"], seen["fee"]["text"]) == (False, "0.01 IFM")
    assert {"caller", "salt", "input_digest"} & seen.keys() == set()


def test_the_owner_claims_on_chain_what_the_root_says_and_once(
    story: Story, closed: Closed
) -> None:
    owed = closed.fees * OWNERS_SHARE // 10_000
    assert story.owner.in_hand() == 0
    story.owner.infra("rewards", "claim", "--yes", "--no-input")
    assert story.owner.in_hand() == owed
    story.owner.try_infra("rewards", "claim", "--yes", "--no-input")
    assert story.owner.in_hand() == owed
    assert _settled(story.owner) == 0


def _settled(purse: Purse) -> int:
    """What is claimable once the last claim was seen."""
    deadline = time.monotonic() + CLAIMABLE_SECONDS
    while (left := int(purse.get("/api/v1/rewards")["claimable"]["base_units"])) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.2)
    return left


def test_the_next_epoch_adds_to_what_was_claimed_and_the_server_relays_the_claim(
    story: Story, closed: Closed
) -> None:
    before = story.owner.in_hand()
    assert story.call().status_code == 200
    story.close()
    with story.owner.http() as http:
        relayed = http.post("/api/v1/rewards/claims", json={"relay": True})
    assert relayed.status_code == 202, relayed.text
    deadline = time.monotonic() + CLAIMABLE_SECONDS
    while story.owner.in_hand() == before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert story.owner.in_hand() == before + FEE * OWNERS_SHARE // 10_000


def test_the_page_claims_by_a_form(story: Story, closed: Closed) -> None:
    before = story.owner.in_hand()
    assert story.call().status_code == 200
    story.close()
    browser = story.owner.browser()
    with story.market.http() as http:
        page = http.get("/account/earnings", headers=browser)
        sent = http.post("/account/earnings", headers=browser)
    assert (page.status_code, sent.status_code) == (200, 302)
    assert f"model:{story.model}" in page.text or story.model in page.text
    deadline = time.monotonic() + CLAIMABLE_SECONDS
    while story.owner.in_hand() == before and time.monotonic() < deadline:
        time.sleep(0.2)
    assert story.owner.in_hand() == before + FEE * OWNERS_SHARE // 10_000


def test_unspent_balance_goes_back_to_its_wallet(story: Story) -> None:
    balance, in_hand = story.caller.balance(), story.caller.in_hand()
    story.caller.infra("withdraw", "0.5IFM", "--yes", "--no-input")
    assert story.caller.balance() == balance - IFM // 2
    assert story.caller.in_hand() == in_hand + IFM // 2
    too_much = story.caller.try_infra("withdraw", "100IFM", "--yes", "--no-input")
    assert too_much.status != 0
    assert story.caller.balance() == balance - IFM // 2


def test_books_chain_and_receipts_agree(story: Story, closed: Closed) -> None:
    reconciled = story.market.manage("reconcile")
    assert (reconciled.status, reconciled.stderr) == (0, "")


@pytest.fixture
def changed(story: Story) -> Iterator[Any]:
    """A row changed behind the database's back, for as long as the test lasts."""
    undo: list[tuple[str, str]] = []

    def run(statement: str) -> str:
        with psycopg.connect(story.market.database_url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            found = connection.execute(statement.encode()).fetchone()
        assert found is not None
        return str(found[0])

    def change(there: str, back: str) -> str:
        row = run(there)
        undo.append((back, row))
        return row

    yield change
    for statement, row in undo:
        run(statement.replace("ROW", row))


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (
            "UPDATE ledger_transfer SET amount_base_units = amount_base_units + 1 WHERE id ="
            " (SELECT transfer.id FROM ledger_transfer transfer JOIN ledger_account account"
            " ON account.id = transfer.credit_id WHERE account.code = 'wallet:CALLER' LIMIT 1)"
            " RETURNING id",
            "UPDATE ledger_transfer SET amount_base_units = amount_base_units - 1"
            " WHERE id = 'ROW' RETURNING id",
        ),
        (
            "UPDATE ledger_account SET charged_base_units = charged_base_units - 1"
            " WHERE code = 'wallet:CALLER' RETURNING code",
            "UPDATE ledger_account SET charged_base_units = charged_base_units + 1"
            " WHERE code = 'ROW' RETURNING code",
        ),
        (
            "UPDATE payouts_event SET amount_base_units = amount_base_units + 1"
            " WHERE account = 'CALLER' AND kind = 'deposited' RETURNING transaction_hash",
            "UPDATE payouts_event SET amount_base_units = amount_base_units - 1"
            " WHERE account = 'CALLER' AND kind = 'deposited' RETURNING transaction_hash",
        ),
        (
            "UPDATE epochs_line SET amount_base_units = amount_base_units - 1 WHERE id ="
            " (SELECT min(id) FROM epochs_line WHERE address = 'OWNER') RETURNING id",
            "UPDATE epochs_line SET amount_base_units = amount_base_units + 1"
            " WHERE id = ROW RETURNING id",
        ),
    ],
    ids=["transfer", "balance", "deposit", "line"],
)
def test_reconcile_names_a_row_that_was_changed_behind_the_books(
    story: Story, closed: Closed, changed: Any, there: str, back: str
) -> None:
    names = {"CALLER": story.caller.address, "OWNER": story.owner.address}
    for name, address in names.items():
        there, back = there.replace(name, address), back.replace(name, address)
    row = changed(there, back)
    reconciled = story.market.manage("reconcile")
    assert reconciled.status == 1
    told = reconciled.stdout + reconciled.stderr
    assert re.search(rf"{re.escape(row)}|{'|'.join(names.values())}|epoch:{closed.number}", told)
