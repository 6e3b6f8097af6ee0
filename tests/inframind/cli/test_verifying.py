"""Receipts and roots are checked here, and a server that lies about them is found out."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from inframind.cli import logins, protocol
from inframind.lib import canonical
from inframind.lib.merkle import keccak
from tests.inframind.cli.conftest import KEY, OTHER, TOKEN, Answer, Infra, PlayedServer
from tests.inframind.lib.published import CHAIN_ID, SIGNER, Call, Epoch, cid_of
from tests.inframind.lib.test_rewards import FIRST, LATER, PAYEES, shared
from tests.inframind.lib.test_rewards import sealed as rewards_sealed

Document = dict[str, Any]

SETTLEMENT = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
PROTOCOL: Document = {
    "chain_id": CHAIN_ID,
    "ifm": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    "settlement": SETTLEMENT,
    "confirmations": 1,
    "gateway_signer": SIGNER,
    "voucher_signer": OTHER,
    "challenge_seconds": 0,
    "faucet": False,
}
INPUT: Document = {"text": "hello"}
OUTPUT: Document = {"text": "HELLO"}


def amount(base_units: int) -> Document:
    return {"base_units": str(base_units), "text": f"{base_units} units"}


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


class Site:
    """A server that has published two epochs; a test may change anything before it asks."""

    def __init__(self, server: PlayedServer) -> None:
        self.server = server
        first = Call(
            0, input_digest=canonical.digest(INPUT), output_digest=canonical.digest(OUTPUT)
        )
        self.receipts = Epoch.of([[first, Call(1)], [Call(2)]])
        self.trees: dict[int, Document] = {}
        self.epochs: dict[int, Document] = {}
        self.publish()

    def publish(self) -> None:
        """Everything as it follows from the receipts and from the fees."""
        facts = {
            "receipts_root": "0x" + self.receipts.root.hex(),
            "receipts_cid": cid_of(self.receipts.dump()),
        }
        first_fees = [(0, 0, 3, self.receipts.fees)]
        first = rewards_sealed(1, self.receipts.fees, shared(first_fees)) | facts
        second = rewards_sealed(2, sum(fee for *_, fee in LATER), shared(LATER), first)
        second["previous"] = cid_of(body(first))
        self.trees = {1: first, 2: second}
        self.epochs = {
            number: {
                "number": number,
                "state": "claimable",
                "ends_at": "2026-01-02T03:04:05Z",
                "receipts": 3,
                "revenue": amount(int(tree["revenue"])),
                "total": amount(int(tree["total"])),
                "leaves": len(tree["values"]),
                "root": tree["tree"][0],
                "receipts_root": tree["receipts_root"],
                "tree_cid": cid_of(body(tree)),
                "receipts_cid": tree["receipts_cid"],
            }
            for number, tree in self.trees.items()
        }
        self.serve()

    def serve(self) -> None:
        """Answers with what there is now, changed or not."""
        said: dict[str, bytes] = {
            "/api/v1/protocol": body(PROTOCOL),
            "/api/v1/epochs": body(
                {"results": [{"number": 3, "state": "open"}, self.epochs[2]], "next": None}
            ),
            "/api/v1/epochs/3": body({"number": 3, "state": "open", "ends_at": "tomorrow"}),
            "/api/v1/epochs/1/receipts": self.receipts.dump(),
        }
        for number in (1, 2):
            said[f"/api/v1/epochs/{number}"] = body(self.epochs[number])
            said[f"/api/v1/epochs/{number}/tree"] = body(self.trees[number])
        for batch in self.receipts.batches:
            for position, call in enumerate(batch.calls):
                said[f"/api/v1/receipts/{call.id}"] = body(batch.receipt(position))
        for path, octets in said.items():
            self.server.on("GET", path, Answer(octets))

    def says(self, path: str, document: Any) -> None:
        self.server.on("GET", path, Answer(body(document)))


@pytest.fixture
def site(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("INFRA_URL", server.url)
    return Site(server)


RECEIPT = str(Call(0).id)


def outcomes(stdout: str) -> list[bool | None]:
    return [each["passed"] for each in json.loads(stdout)["checks"]]


def test_a_receipt_is_verified_down_to_the_sum_of_its_epoch(infra: Infra, site: Site) -> None:
    outcome = infra("receipt", "verify", RECEIPT)
    assert outcome.status == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert [line[0] for line in lines[:5]] == ["✓"] * 5
    assert lines[2] == "✓ It is among the published receipts of epoch 1"
    assert "which its tree shares out: 0.03 IFM" in lines[4]
    assert "receipts signed by " + SIGNER in outcome.stderr


def test_documents_are_held_against_the_receipt(infra: Infra, site: Site, tmp_path: Path) -> None:
    Path("in.json").write_text('{ "text":\n "hello" }')
    Path("out.json").write_text(json.dumps(OUTPUT))
    arguments = ("receipt", "verify", RECEIPT, "--json", "--input", "in.json", "--output")
    good = infra(*arguments, "out.json")
    assert (good.status, outcomes(good.stdout)) == (0, [True] * 7)
    assert good.stderr == ""
    bad = infra(*arguments, "in.json")
    assert (bad.status, json.loads(bad.stdout)["sound"]) == (1, False)
    assert json.loads(bad.stderr)["type"] == "/problems/receipt-unsound"
    missing = infra(*arguments, "nowhere.json")
    assert (missing.status, missing.stdout) == (2, "")


def test_a_stranger_is_told_what_could_not_be_checked(infra: Infra, site: Site) -> None:
    site.says(f"/api/v1/receipts/{RECEIPT}", site.receipts.batches[0].receipt(0, whole=False))
    Path("in.json").write_text(json.dumps(INPUT))
    outcome = infra("receipt", "verify", RECEIPT, "--input", "in.json", "--json")
    assert (outcome.status, outcomes(outcome.stdout)) == (0, [True, None, None, True, True, True])


def test_before_its_epoch_is_sealed_the_rest_is_told_as_not_checked(
    infra: Infra, site: Site
) -> None:
    site.says("/api/v1/epochs/1", {"number": 1, "state": "open", "ends_at": "tomorrow"})
    outcome = infra("receipt", "verify", RECEIPT)
    assert outcome.status == 0
    assert "Epoch 1 is open; it is sealed after tomorrow." in outcome.stdout
    assert all("/receipts" not in each.path.removeprefix("/api/v1/receipts")
               for each in site.server.asked)  # fmt: skip


def test_a_receipt_is_verified_from_a_file(infra: Infra, site: Site) -> None:
    Path("receipt.json").write_text(infra("receipt", "show", RECEIPT, "--json").stdout)
    site.server.on("GET", f"/api/v1/receipts/{RECEIPT}", Answer(b"gone", 404))
    assert infra("receipt", "verify", "receipt.json").status == 0
    for text in ("{}", "[", '{"id": "7"}', "[[1]]"):
        Path("no.json").write_text(text)
        assert infra("receipt", "verify", "no.json").status == 2
    assert infra("receipt", "verify", "nowhere.json").status == 2


@pytest.mark.parametrize(
    "change",
    [
        {"fee": amount(1)},
        {"model": "other-v1@1.0.0"},
        {"caller": OTHER},
        {"latency_ms": 1.6},
        {"outcome": "timed-out"},
        {"proof": []},
        {"input_digest": "sha256:" + "00" * 32},
        {"epoch": 2},
        {"commitment": "0x" + "00" * 32},
        {"batch": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_receipt_with_a_changed_field_is_found_out(
    infra: Infra, site: Site, change: Document
) -> None:
    site.says(f"/api/v1/receipts/{RECEIPT}", site.receipts.batches[0].receipt(0) | change)
    outcome = infra("receipt", "verify", RECEIPT)
    assert outcome.status == 1
    assert outcome.stdout.startswith("✗ Signed by the gateway")
    assert "is not what it should be" in outcome.stderr


def test_a_receipt_that_its_epoch_does_not_have_is_found_out(infra: Infra, site: Site) -> None:
    left_out = site.receipts.batches[0].receipt(0)
    site.receipts = Epoch.of([[Call(1)], [Call(2)]])
    site.publish()
    for epoch in site.epochs.values():
        epoch["receipts"] = 2
    site.serve()
    site.says(f"/api/v1/receipts/{RECEIPT}", left_out)
    outcome = infra("receipt", "verify", RECEIPT)
    assert outcome.status == 1
    assert "✗ It is among the published receipts of epoch 1" in outcome.stdout.splitlines()


@pytest.mark.parametrize("lie", ["revenue", "receipts", "receipts_root", "tree"])
def test_an_epoch_that_says_another_sum_than_its_receipts_is_found_out(
    infra: Infra, site: Site, lie: str
) -> None:
    changes: dict[str, Any] = {
        "revenue": amount(5), "receipts": 4, "receipts_root": "0x" + "00" * 32,
    }  # fmt: skip
    if lie == "tree":
        site.trees[1]["revenue"] = "5"
        site.epochs[1]["tree_cid"] = cid_of(body(site.trees[1]))
    else:
        site.epochs[1][lie] = changes[lie]
    site.serve()
    outcome = infra("receipt", "verify", RECEIPT)
    assert (outcome.status, "✗" in outcome.stdout) == (1, True)


@pytest.mark.parametrize("path", ["receipts", "tree"])
def test_bytes_that_are_not_what_their_cid_names_count_for_nothing(
    infra: Infra, site: Site, path: str
) -> None:
    site.server.on("GET", f"/api/v1/epochs/1/{path}", Answer(site.receipts.dump() + b" "))
    outcome = infra("receipt", "verify", RECEIPT)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "hashes to" in outcome.stderr


def test_another_signer_is_shouted_about_and_can_be_named(infra: Infra, site: Site) -> None:
    assert infra("receipt", "verify", RECEIPT).status == 0
    site.says("/api/v1/protocol", PROTOCOL | {"gateway_signer": OTHER})
    old = infra("receipt", "verify", RECEIPT)
    # The receipt is by the one that was pinned, so it stays good.
    assert old.status == 0
    assert "NAMES ANOTHER SIGNER OF RECEIPTS THAN EVER BEFORE" in old.stderr
    assert f"rm {protocol.path(site.server.url)}" in old.stderr
    named = infra("receipt", "verify", RECEIPT, "--signer", OTHER)
    assert (named.status, f"and the gateway is {OTHER}" in named.stdout) == (1, True)
    assert infra("receipt", "verify", RECEIPT, "--signer", SIGNER.lower()).status == 0
    assert infra("receipt", "verify", RECEIPT, "--signer", "me").status == 2


def test_a_root_is_rebuilt_from_what_is_published(
    infra: Infra, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = infra("rewards", "verify", "--json")
    assert outcome.status == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert (document["epoch"], document["sound"]) == (2, True)
    assert document["root"] == site.epochs[2]["root"]
    assert outcomes(outcome.stdout) == [*[True] * 7, None]
    assert (document["account"], document["lines"]) == (None, [])
    shown = infra("rewards", "verify", "--epoch", "1")
    assert (shown.status, "(rebuilt here)" in shown.stdout) == (0, True)
    monkeypatch.setenv("INFRA_PRIVATE_KEY", KEY)
    assert json.loads(infra("rewards", "verify", "--json").stdout)["lines"] == []


def test_what_is_not_sealed_cannot_be_verified(infra: Infra, site: Site) -> None:
    outcome = infra("rewards", "verify", "--epoch", "3")
    assert (outcome.status, "nothing of it is published yet" in outcome.stderr) == (1, True)
    site.says("/api/v1/epochs", {"results": [{"number": 1, "state": "open"}], "next": None})
    assert infra("rewards", "verify").status == 1


def test_the_newest_sealed_epoch_may_be_on_the_next_page(infra: Infra, site: Site) -> None:
    pages: list[Document] = [
        {"results": [{"number": 3, "state": "open"}],
         "next": f"{site.server.url}/api/v1/epochs?cursor=x"},
        {"results": [site.epochs[2]], "next": None},
    ]  # fmt: skip
    site.server.on("GET", "/api/v1/epochs", *(Answer(body(each)) for each in pages))
    assert json.loads(infra("rewards", "verify", "--json").stdout)["epoch"] == 2
    elsewhere = [pages[0] | {"next": "http://127.0.0.1:1/api/v1/epochs?cursor=x"}]
    site.server.on("GET", "/api/v1/epochs", *(Answer(body(each)) for each in elsewhere))
    assert "No epoch is sealed yet" in infra("rewards", "verify").stderr


@pytest.mark.parametrize("lie", ["dropped", "fell", "rounding", "total", "server", "previous"])
def test_a_dump_that_cheats_is_found_out_whatever_its_cid(
    infra: Infra, site: Site, lie: str
) -> None:
    tree = copy.deepcopy(site.trees[2])
    if lie == "dropped":
        values = [each for each in tree["values"] if each["value"][0] != PAYEES[3]]
        tree["values"] = values
    elif lie == "fell":
        tree["values"][0]["value"][2] = "1"
    elif lie == "rounding":
        tree["lines"][0]["amount"] = str(int(tree["lines"][0]["amount"]) + 1)
    elif lie == "total":
        tree["total"] = str(int(tree["total"]) + 1)
    elif lie == "server":
        site.epochs[2]["root"] = "0x" + "00" * 32
    else:
        tree["previous"] = None
    site.trees[2] = tree
    site.epochs[2]["tree_cid"] = cid_of(body(tree))
    site.serve()
    outcome = infra("rewards", "verify")
    assert outcome.status == 1
    assert "✗" in outcome.stdout
    assert "(rebuilt here)" not in outcome.stdout
    assert "Tell the guardian of the contract" in outcome.stderr


def test_a_previous_dump_that_is_not_the_one_named_counts_for_nothing(
    infra: Infra, site: Site
) -> None:
    site.says("/api/v1/epochs/1/tree", FIRST)
    outcome = infra("rewards", "verify")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "hashes to" in outcome.stderr


class Rpc:
    """A node of the chain that says what it was told to."""

    def __init__(self, server: PlayedServer) -> None:
        self.server = server

    def says(self, *results: object) -> None:
        answers = [Answer(body({"jsonrpc": "2.0", "id": 1, "result": each})) for each in results]
        self.server.on("POST", "/rpc", *answers)


@pytest.fixture
def rpc(site: Site, monkeypatch: pytest.MonkeyPatch) -> Rpc:
    monkeypatch.setenv("INFRA_RPC_URL", f"{site.server.url}/rpc")
    return Rpc(site.server)


def proposal(root: str, total: int) -> str:
    return root + f"{total:064x}" + f"{1_767_000_000:064x}"


def test_the_root_is_held_against_the_contract(infra: Infra, site: Site, rpc: Rpc) -> None:
    root, total = site.epochs[2]["root"], int(site.trees[2]["total"])
    rpc.says(hex(CHAIN_ID), proposal(root, total))
    good = infra("rewards", "verify", "--json")
    assert (good.status, outcomes(good.stdout)[-1]) == (0, True)
    asked = json.loads(site.server.asked[-1].body)["params"][0]
    selector = keccak(b"rootOf(uint64)")[:4].hex()
    assert asked == {"to": SETTLEMENT, "data": f"0x{selector}{2:064x}"}
    for other in (proposal("0x" + "11" * 32, total), proposal(root, total + 1)):
        rpc.says(hex(CHAIN_ID), other)
        bad = infra("rewards", "verify", "--json")
        assert (bad.status, outcomes(bad.stdout)[-1]) == (1, False)
    rpc.says(hex(CHAIN_ID), proposal("0x" + "00" * 32, 0))
    waiting = infra("rewards", "verify", "--json")
    assert (waiting.status, outcomes(waiting.stdout)[-1]) == (0, None)


@pytest.mark.parametrize("answer", [None, "0x", "0x1234", 7, "12"])
def test_an_rpc_that_makes_no_sense_is_told(infra: Infra, rpc: Rpc, answer: object) -> None:
    rpc.says(hex(CHAIN_ID), answer)
    outcome = infra("rewards", "verify")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "INFRA_RPC_URL" in outcome.stderr


def test_an_rpc_of_another_chain_or_no_address_is_wrong_usage(
    infra: Infra, rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc.says("0x1")
    assert infra("rewards", "verify").status == 2
    monkeypatch.setenv("INFRA_RPC_URL", "localhost:8545/secret")
    outcome = infra("rewards", "verify")
    assert (outcome.status, "secret" in outcome.stderr) == (2, False)


def test_the_lines_of_whoever_is_signed_in_are_shown(infra: Infra, site: Site) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    logins.keep(site.server.url, logins.Login(PAYEES[0], TOKEN, "t1", until))
    [line] = json.loads(infra("rewards", "verify", "--json").stdout)["lines"]
    assert (line["share"], line["gross"]) == ("owner", str(LATER[0][3]))
    assert f"Your lines ({PAYEES[0]})" in infra("rewards", "verify").stdout
