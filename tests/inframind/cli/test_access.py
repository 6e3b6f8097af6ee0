"""Who may see and call a model: policy, allow list, groups and requests at the real application."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from inframind.cli.access import read_entries
from inframind.cli.refusal import Refusal
from inframind.identity.models import Wallet
from marketplace.catalog.models import AccessRequest, AllowEntry, Model, Version
from tests.inframind.cli.conftest import ADDRESS, KEY, OTHER, OTHER_KEY, Infra
from tests.inframind.cli.test_against_server import CODE, MANIFEST

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "upper-caser-v1"
SECOND = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
THIRD = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "upper"
    root.mkdir()
    (root / "model.yaml").write_text(MANIFEST)
    (root / "model.py").write_text(CODE)
    return root


@pytest.fixture
def owned(infra: Infra, signed_in: str, package: Path) -> str:
    """A public model of the wallet that is signed in; its name."""
    outcome = infra("register", "--model", "upper", "--no-wait")
    assert outcome.status == 0, outcome.stderr
    return NAME


def become(infra: Infra, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("INFRA_PRIVATE_KEY", key)
    assert infra("login").status == 0


def told(infra: Infra, *arguments: str) -> dict[str, object]:
    outcome = infra(*arguments, "--json")
    assert outcome.status == 0, outcome.stderr
    document: dict[str, object] = json.loads(outcome.stdout)
    return document


def test_a_policy_is_shown_and_changed(infra: Infra, owned: str) -> None:
    rows = infra("model", "access", "show", owned).stdout.splitlines()
    assert "Public      yes" in rows
    document = told(infra, "model", "access", "set", owned, "--private", "--reason", "Quiet.")
    assert (document["public"], document["auth_required"], document["restricted"]) == (
        False,
        True,
        True,
    )
    assert Model.objects.get(pk=owned).public is False
    shown = infra("model", "access", "show", owned)
    assert "Public      no" in shown.stdout.splitlines()
    assert "Nobody but you is let in" in shown.stderr
    lines = infra("model", "access", "history", owned).stdout.splitlines()
    assert lines[0].split("\t")[1] == "policy"
    assert "Quiet." in lines[0]


def test_wallets_and_groups_are_let_in_and_taken_off(infra: Infra, owned: str) -> None:
    assert told(infra, "group", "create", "customers")["name"] == "customers"
    added = infra(
        "model", "access", "allow", owned, OTHER.lower(), "@customers", "--expires-in", "30d",
        "--note", "May",
    )  # fmt: skip
    assert added.stdout.splitlines() == ["Added      2", "Changed    0", "Unchanged  0"]
    rows = [
        line.split("\t")
        for line in infra("model", "access", "show", owned).stdout.splitlines()
        if "\t" in line
    ]
    assert [(row[0], row[3]) for row in rows] == [(OTHER, "May"), ("@customers", "May")]
    assert all(SECOND.fullmatch(row[1]) and SECOND.fullmatch(row[2]) for row in rows)
    assert told(infra, "group", "add", "customers", THIRD)["added"] == 1
    [joined, *_] = infra("model", "access", "history", owned).stdout.splitlines()
    at, *cells = joined.split("\t")
    assert SECOND.fullmatch(at)
    assert cells[:2] == ["joined @customers", THIRD]
    infra("group", "remove", "customers", THIRD)
    removed = told(infra, "model", "access", "remove", owned, OTHER, "@customers")
    assert removed == {"model": owned, "removed": [OTHER, "@customers"]}
    assert not AllowEntry.objects.exists()
    history = json.loads(infra("model", "access", "history", owned, "--json").stdout)
    whats = [each["what"] for each in history if not each["group"]]
    assert whats[:4] == ["removed", "removed", "allowed", "allowed"]
    again = infra("model", "access", "remove", owned, OTHER)
    assert (again.status, again.stdout) == (1, "")


def test_a_file_lets_in_everybody_it_names_at_once(
    infra: Infra, owned: str, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(
        f"wallet,until,note\n{OTHER},30d,first\n\n# nobody\n{THIRD.lower()}\n{OTHER},,last wins\n"
    )
    expected = {"model": owned, "added": 2, "changed": 0, "unchanged": 0}
    assert told(infra, "model", "access", "import", owned, "list.csv") == expected
    again = told(infra, "model", "access", "import", owned, "list.csv")
    assert (again["added"], again["unchanged"]) == (0, 2)
    (tmp_path / "bad.csv").write_text(f"{ADDRESS}\n0x123\n")
    refused = infra("model", "access", "import", owned, "bad.csv")
    assert refused.status == 2
    assert "Line 2: " in refused.stderr
    assert AllowEntry.objects.count() == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody", "Line 1: 'nobody' is not a wallet address."),
        (f"{OTHER},soon", "Line 1: --expires-in"),
        (f"{OTHER}\n{OTHER[:-1]}", "Line 2: "),
        (f"{OTHER}\n{OTHER},30d,{'x' * 200_000}", "Line 2: field larger than"),
    ],
)
def test_a_line_that_cannot_be_read_stops_the_import(text: str, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        read_entries(text)
    assert refused.value.document["detail"].startswith(words)


def test_a_group_is_kept_apart_from_models(infra: Infra, signed_in: str) -> None:
    infra("group", "create", "customers")
    assert told(infra, "group", "add", "customers", OTHER, THIRD, "--note", "n")["added"] == 2
    assert infra("group", "list").stdout == "customers\t2\t0\n"
    lines = infra("group", "show", "customers").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [OTHER, THIRD]
    assert told(infra, "group", "remove", "customers", OTHER)["removed"] == [OTHER]
    assert len(told(infra, "group", "show", "customers")["members"]) == 1  # type: ignore[arg-type]
    assert told(infra, "group", "delete", "customers") == {"group": "customers", "deleted": True}
    assert json.loads(infra("group", "list", "--json").stdout) == []
    missing = infra("group", "show", "customers")
    assert (missing.status, missing.stdout) == (1, "")
    assert "There is no group called customers." in missing.stderr


def test_a_wallet_asks_and_the_owner_answers(
    infra: Infra, owned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    infra("model", "access", "set", owned, "--private")
    become(infra, monkeypatch, OTHER_KEY)
    known = infra("model", "access", "ask", owned, "--message", "We met.")
    unknown = infra("model", "access", "ask", "no-such-model", "--message", "We met.")
    assert (known.status, known.stdout, known.stderr) == (0, "", unknown.stderr)
    asked = infra("model", "access", "requests").stdout.splitlines()
    assert [line.split("\t")[:2] for line in asked] == [["no-such-model", "open"], [owned, "open"]]
    become(infra, monkeypatch, KEY)
    [line] = infra("model", "access", "requests", owned).stdout.splitlines()
    request_id, state, wallet, _, message, _ = line.split("\t")
    assert (state, wallet, message) == ("open", OTHER, "We met.")
    approved = told(infra, "model", "access", "approve", owned, request_id, "--expires-in", "30d")
    assert approved["state"] == "approved"
    assert AllowEntry.objects.get().address == OTHER
    become(infra, monkeypatch, OTHER_KEY)
    assert infra("model", "access", "requests").stdout.splitlines()[1].split("\t")[1] == "approved"


def test_asking_and_its_lists_are_json_for_programs(
    infra: Infra, owned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(infra, monkeypatch, OTHER_KEY)
    assert "detail" in told(infra, "model", "access", "ask", owned)
    [mine] = json.loads(infra("model", "access", "requests", "--json").stdout)
    assert (mine["model"], mine["state"]) == (owned, "open")
    become(infra, monkeypatch, KEY)
    [theirs] = json.loads(infra("model", "access", "requests", owned, "--json").stdout)
    refused = told(infra, "model", "access", "refuse", owned, theirs["id"])
    assert (refused["state"], refused["told"]) == ("refused", False)


def test_a_request_is_refused(infra: Infra, owned: str) -> None:
    asked = AccessRequest.objects.create(model_name=owned, wallet=Wallet.objects.of(OTHER))
    outcome = infra(
        "model", "access", "refuse", owned, str(asked.pk), "--tell", "--answer", "Not now."
    )
    assert outcome.status == 0, outcome.stderr
    assert "State    refused" in outcome.stdout.splitlines()
    asked.refresh_from_db()
    assert (asked.answer, asked.told) == ("Not now.", True)
    unknown = "0198c0de-0000-7000-8000-000000000000"
    assert infra("model", "access", "approve", owned, unknown).status == 1


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["set", "--private"],
        ["allow", THIRD],
        ["remove", THIRD],
        ["history"],
        ["requests"],
        ["approve", "0198c0de-0000-7000-8000-000000000000"],
        ["refuse", "0198c0de-0000-7000-8000-000000000000"],
    ],
)
def test_another_wallet_may_not_and_of_a_private_model_learns_nothing(
    infra: Infra, owned: str, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    def tried(name: str) -> tuple[int, str, str]:
        outcome = infra("model", "access", command[0], name, *command[1:])
        return outcome.status, outcome.stdout, outcome.stderr.replace(name, "NAME")

    become(infra, monkeypatch, OTHER_KEY)
    assert tried(owned)[:2] == (4, "")
    Model.objects.update(public=False, auth_required=True, restricted=True)
    private, unknown = tried(owned), tried("no-such-model")
    assert (private[0], private) == (1, unknown)


@pytest.mark.parametrize(
    "arguments",
    [
        ["group", "list"],
        ["group", "show", "g"],
        ["group", "create", "g"],
        ["group", "delete", "g"],
        ["group", "add", "g", OTHER],
        ["group", "remove", "g", OTHER],
        ["model", "access", "show", "m"],
        ["model", "access", "set", "m", "--private"],
        ["model", "access", "allow", "m", OTHER],
        ["model", "access", "remove", "m", OTHER],
        ["model", "access", "history", "m"],
        ["model", "access", "requests"],
        ["model", "access", "ask", "m"],
        ["model", "deprecate", "m"],
    ],
)
def test_without_signing_in_the_way_is_told(
    infra: Infra, at_live_server: str, arguments: list[str]
) -> None:
    outcome = infra(*arguments)
    assert (outcome.status, outcome.stdout) == (4, "")
    assert "infra login" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "access", "set", "m"], "Nothing is to be changed."),
        (["model", "access", "allow", "m", "0x12"], "is not a wallet address"),
        (["model", "access", "allow", "m", OTHER, "--expires-in", "1y"], "not a duration"),
        (["model", "access", "allow", "m"], "WHO"),
        (["model", "access", "import", "m", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["model", "access", "approve", "m", "7"], "is not the id of a request"),
        (["model", "access", "refuse", "m", "7"], "is not the id of a request"),
        (["group", "add", "g", "@h"], "is not a wallet address"),
        (["model", "deprecate", "m", "--sunset", "soon"], "--sunset"),
        (["model", "deprecate", "m", "--sunset", "9999999d"], "at most 36500d"),
        (["model", "deprecate", "m", "--sunset", "0001-01-01T00:00+10:00"], "beyond the calendar"),
        (["model", "deprecate", "m", "--successor", "x"], "not a semantic version"),
    ],
)
def test_wrong_usage_sends_nothing(infra: Infra, arguments: list[str], words: str) -> None:
    outcome = infra(*arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert words in outcome.stderr


def activate(number: str = "1.0.0") -> None:
    from marketplace.catalog import services

    services.activate(version=Version.objects.get(model=NAME, number=number))


def test_a_version_is_deprecated_with_successor_and_sunset(
    infra: Infra, owned: str, package: Path
) -> None:
    activate()
    (package / "model.yaml").write_text(MANIFEST.replace("version: 1.0", "version: 1.1"))
    assert infra("register", "--model", "upper", "--no-wait").status == 0
    activate("1.1.0")
    outcome = infra(
        "model", "deprecate", f"{owned}@1.0", "--successor", "1.1", "--sunset", "2027-06-30",
        "--reason", "Slow.",
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.splitlines()[0] == f"Model      {owned}@1.0.0"
    assert f"Successor  {owned}@1.1.0" in outcome.stdout.splitlines()
    version = Version.objects.get(model=owned, number="1.0.0")
    assert (version.state, version.sunset_at and version.sunset_at.isoformat()) == (
        "deprecated",
        "2027-06-30T00:00:00+00:00",
    )
    document = told(infra, "model", "deprecate", "--name", owned)
    assert (document["version"], document["state"]) == ("1.1.0", "deprecated")


def test_another_wallets_version_is_not_deprecated(
    infra: Infra, owned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    activate()
    become(infra, monkeypatch, OTHER_KEY)
    outcome = infra("model", "deprecate", owned)
    assert (outcome.status, outcome.stdout) == (4, "")
    assert Version.objects.get().state == "active"


def test_an_allow_list_in_the_manifest_goes_beside_the_package(
    infra: Infra, signed_in: str, package: Path
) -> None:
    listed = f"{MANIFEST}access:\n  public: false\n  allow_list: ['{OTHER}']\n"
    (package / "model.yaml").write_text(listed)
    outcome = infra("register", "--model", "upper", "--no-wait", "--json")
    assert (outcome.status, outcome.stderr) == (0, "")
    document = json.loads(outcome.stdout)
    assert document["notices"][0].startswith(
        "1 entry of access.allow_list goes beside the package: "
    )
    assert OTHER not in json.dumps(document)
    assert AllowEntry.objects.get().address == OTHER
    assert Model.objects.get().restricted
    assert (package / "model.yaml").read_text() == listed
    assert document["sealed"]
    assert document["content_cid"] != document["cid"]


def test_with_json_a_refused_registration_says_nothing_but_its_problem(
    infra: Infra, signed_in: str, package: Path
) -> None:
    listed = f"{MANIFEST}access:\n  public: false\n  allow_list: ['{OTHER}', '{THIRD}']\n"
    (package / "model.yaml").write_text(listed.replace("runtime: ", "runtime: no-"))
    (package / ".hidden").write_text("left out")
    refused = infra("register", "--model", "upper", "--no-wait", "--json")
    assert (refused.status, refused.stdout) == (1, "")
    assert json.loads(refused.stderr)["status"] == 422
    told_people = infra("register", "--model", "upper", "--no-wait").stderr.splitlines()
    assert told_people[0].startswith("2 entries of access.allow_list go beside the package: ")
    assert told_people[1] == "Left out: .hidden"


def test_a_sealed_package_comes_back_as_it_was_published(
    infra: Infra, signed_in: str, package: Path, tmp_path: Path
) -> None:
    (package / "model.yaml").write_text(f"{MANIFEST}access: {{public: false}}\n")
    assert infra("register", "--model", "upper", "--no-wait").status == 0
    document = told(infra, "model", "export", NAME, "--output", "back")
    version = Version.objects.get()
    assert (document["cid"], document["sealed"]) == (version.content_cid, True)
    assert (tmp_path / "back/model.yaml").read_bytes() == (package / "model.yaml").read_bytes()
    verified = infra("model", "verify", f"{NAME}@1.0.0")
    assert f"CID       {version.content_cid} (computed here, as registered)" in verified.stdout
    assert f"Stored    sealed as {version.cid}" in verified.stdout
