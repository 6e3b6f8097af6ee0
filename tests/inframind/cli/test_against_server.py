"""The command against the real application: what it sends is understood, what it reads is there."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from billing.ledger.models import Reason
from billing.ledger.services import Posting, post
from inframind.cli.packing import scan
from inframind.identity.models import Wallet
from inframind.identity.services import mint_token
from inframind.lib.ids import new_uuid7
from marketplace.catalog import services
from marketplace.catalog.models import Version
from tests.inframind.cli.conftest import Infra

OWNER = "0x" + "b7" * 20
STRANGER = "0x" + "f4" * 20
MANIFEST = """\
name: upper-caser-v1
version: 1.0
description: Says it louder.
license: MIT
task: text-generation
runtime: python
entrypoint: model.py:Model
pricing:
  per_request_fee: 0.25 IFM
input_schema:
  type: object
  properties:
    text: {type: string, description: What to say.}
  required: [text]
output_schema:
  type: object
  properties:
    text: {type: string}
  required: [text]
examples:
  - input: {text: hello}
    output: {text: HELLO}
"""
CODE = """\
class Model:
    def __init__(self, package):
        pass

    def predict(self, document):
        return {"text": document["text"].upper()}
"""

pytestmark = pytest.mark.django_db(transaction=True)


def token_of(address: str) -> str:
    return mint_token(
        wallet=Wallet.objects.of(address),
        name="cli",
        actions=["publish", "invoke"],
        lifetime=timedelta(hours=1),
    )[1]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "upper"
    root.mkdir()
    (root / "model.yaml").write_text(MANIFEST)
    (root / "model.py").write_text(CODE)
    (root / "README.md").write_text("# Upper\n")
    return root


@pytest.fixture(autouse=True)
def publishing(at_live_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRA_TOKEN", token_of(OWNER))


def registered(infra: Infra) -> Version:
    outcome = infra("register", "--model", "upper", "--no-wait", "--json")
    assert outcome.status == 0, outcome.stderr
    return Version.objects.get(model="upper-caser-v1", number="1.0.0")


def activated(infra: Infra) -> Version:
    version = registered(infra)
    services.activate(version=version)
    return version


def test_register_publishes_once_and_tells_when_a_person_is_waited_for(
    infra: Infra, package: Path
) -> None:
    arguments = ["register", "--model", "upper", "--name", "upper-caser-v1", "--version", "1.0"]
    first, second = infra(*arguments), infra(*arguments, "--json")
    sent = scan(package)
    for _ in sent.stream():
        pass
    assert (first.status, second.status) == (0, 0)
    assert f"CID       {sent.cid}" in first.stdout.splitlines()
    assert "Waiting for a code review" in first.stdout
    document = json.loads(second.stdout)
    assert (document["created"], document["cid"]) == (False, sent.cid)
    assert document["verification"]["state"] == "waiting-for-review"


def test_a_manifest_that_breaks_rules_is_told_with_its_lines(infra: Infra, package: Path) -> None:
    (package / "model.yaml").write_text(MANIFEST.replace("license: MIT", "licence: MIT"))
    outcome = infra("register", "--model", "upper")
    assert outcome.status == 1
    assert "line 4, /licence: The field 'licence' is unknown." in outcome.stderr
    assert "Nothing was charged." in outcome.stderr


def test_a_version_never_changes(infra: Infra, package: Path) -> None:
    registered(infra)
    (package / "README.md").write_text("# Other\n")
    outcome = infra("register", "--model", "upper")
    assert outcome.status == 1
    assert "Versions never change." in outcome.stderr


def test_names_belong_to_their_first_registrant(
    infra: Infra, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(infra)
    monkeypatch.setenv("INFRA_TOKEN", token_of(STRANGER))
    outcome = infra("register", "--model", "upper", "--version", "1.0")
    assert outcome.status == 1
    assert "is not available" in outcome.stderr


def test_a_token_that_is_none_is_status_four(infra: Infra, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFRA_TOKEN", "infra_nothing")
    outcome = infra("model", "list")
    assert (outcome.status, outcome.stdout) == (4, "")
    assert "infra_nothing" not in outcome.stderr


def test_list_and_search_show_what_is_active(infra: Infra, package: Path) -> None:
    version = registered(infra)
    assert infra("model", "list").stdout == ""
    services.activate(version=version)
    expected = "upper-caser-v1\t1.0.0\ttext-generation\t0.25 IFM\tpython\tactive\tSays it louder.\n"
    assert infra("model", "list").stdout == expected
    assert infra("model", "list", "louder", "--runtime", "python").stdout == expected
    assert infra("model", "list", "--task", "ocr", "--sort", "calls").stdout == ""


def test_show_tells_figures_schemas_and_how_to_call(infra: Infra, package: Path) -> None:
    activated(infra)
    outcome = infra("model", "show", "upper-caser-v1@1.0")
    assert outcome.status == 0
    for line in (
        "upper-caser-v1@1.0.0  active",
        "Fee         0.25 IFM",
        "  text  string  What to say.",
        "  infra call --model upper-caser-v1 text=hello",
    ):
        assert line in outcome.stdout.splitlines()
    assert "not enough data" in outcome.stdout


def test_what_is_exported_is_what_was_published(
    infra: Infra, package: Path, tmp_path: Path
) -> None:
    version = activated(infra)
    outcome = infra("model", "export", "upper-caser-v1", "--output", "back", "--json")
    assert (outcome.status, json.loads(outcome.stdout)["cid"]) == (0, version.cid)
    assert b"".join(scan(tmp_path / "back").stream()) == b"".join(scan(package).stream())
    assert infra("model", "verify", "upper-caser-v1").status == 0


def test_a_stranger_sees_nothing_of_a_pending_version(
    infra: Infra, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(infra)
    monkeypatch.setenv("INFRA_TOKEN", token_of(STRANGER))
    for command in ("show", "export", "verify"):
        pending, unknown = (
            infra("model", command, name) for name in ("upper-caser-v1", "upper-caser-v2")
        )
        assert (pending.status, unknown.status) == (1, 1)
        assert pending.stderr.replace("-v1", "-v2") == unknown.stderr
    assert infra("call", "--model", "upper-caser-v1", "text=a").status == 1


def test_a_call_that_breaks_the_schema_names_the_place(infra: Infra, package: Path) -> None:
    activated(infra)
    post(
        [
            Posting(
                id=new_uuid7(),
                debit="chain",
                credit=f"wallet:{wallet.address}",
                amount_base_units=10**18,
                reason=Reason.DEPOSIT,
            )
            for wallet in Wallet.objects.all()
        ]
    )
    outcome = infra("call", "--model", "upper-caser-v1", "text:=7", "--budget", "1IFM")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "  /text: " in outcome.stderr
    assert "Nothing was charged." in outcome.stderr


def test_a_budget_below_the_fee_is_refused(infra: Infra, package: Path) -> None:
    activated(infra)
    outcome = infra("call", "--model", "upper-caser-v1", "text=a", "--budget", "0.1", "IFM")
    assert outcome.status == 1
    assert "0.25 IFM" in outcome.stderr
