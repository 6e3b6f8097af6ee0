"""The commands over a played server: what they send, what they print, what they keep."""

from __future__ import annotations

import email.message
import email.parser
import email.policy
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from inframind.cli import listing
from inframind.cli.packing import scan
from tests.inframind.cli.conftest import TOKEN, Answer, Infra, PlayedServer

MANIFEST = b"name: echo-v1\nversion: 1.0\n"
BASE = "/api/v1/models"
V = f"{BASE}/echo-v1/versions/1.0.0"
CHECKS = [
    {
        "kind": "hash", "title": "Bytes hash to the CID", "passed": True, "cases_total": 1,
        "cases_passed": 1, "detail": "",
        "duration_ms": 3,
    },
    {
        "kind": "examples", "title": "Examples give their golden outputs", "passed": False,
        "cases_total": 2, "cases_passed": 1,
        "detail": "/text differs", "duration_ms": 9,
    },
]  # fmt: skip


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "echo"
    root.mkdir()
    (root / "model.yaml").write_bytes(MANIFEST)
    (root / "weights.bin").write_bytes(b"\x07" * 3000)
    return root


def packed(root: Path) -> tuple[bytes, str]:
    package = scan(root)
    return b"".join(package.stream()), package.cid


def version_document(cid: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "echo-v1",
        "version": "1.0.0",
        "description": "Says it again.",
        "task": "text-generation",
        "runtime": "onnx",
        "license": "MIT",
        "stability": "stable",
        "state": "active",
        "state_reason": "",
        "owner": "0x" + "0" * 40,
        "payout_address": "0x" + "0" * 40,
        "cid": cid,
        "container": "",
        "endpoint": "http://127.0.0.1:8000/inference/v1/echo-v1",
        "fee": {"base_units": "250000000000000000", "text": "0.25 IFM"},
        "badges": [{"kind": "hash-verified"}],
        "input_schema": {
            "type": "object",
            "properties": {"text": {"type": "string", "description": "What to say."}},
            "required": ["text"],
        },
        "output_schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "manifest": {"examples": [{"input": {"text": "it's me"}, "output": {"n": 1}}]},
    } | changes


def as_json(document: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(document).encode(), status, {"Content-Type": "application/json"})


@pytest.fixture
def registry(server: PlayedServer, package: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    monkeypatch.setenv("INFRA_URL", server.url)
    monkeypatch.setenv("INFRA_TOKEN", TOKEN)
    stream, cid = packed(package)
    document = version_document(cid)
    server.on(
        "POST", BASE, as_json(document | {"state": "pending", "notices": ["Mind this."]}, 201)
    )
    server.on("GET", f"{BASE}/echo-v1", as_json(document))
    server.on("GET", V, as_json(document))
    server.on("GET", f"{V}/verification", as_json({"state": "passed", "checks": CHECKS[:1]}))
    server.on("GET", f"{V}/package", Answer(stream))
    return server


def parts_of(headers: dict[str, str], body: bytes) -> dict[str, bytes]:
    raw = b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(raw)
    found = {}
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_param("name", header="content-disposition")
        found[str(name)] = payload
    return found


def test_register_sends_the_package_and_shows_what_came_of_it(
    infra: Infra, registry: PlayedServer, package: Path
) -> None:
    outcome = infra(
        "register", "--model", "echo/model.yaml", "--name", "echo-v1", "--version", "1.0"
    )
    stream, cid = packed(package)
    asked = registry.asked[0]
    assert outcome.status == 0
    assert parts_of(asked.headers, asked.body) == {
        "name": b"echo-v1", "version": b"1.0.0", "package": stream,
    }  # fmt: skip
    assert outcome.stdout.splitlines() == [
        "Model     echo-v1@1.0.0",
        f"CID       {cid}",
        "Endpoint  http://127.0.0.1:8000/inference/v1/echo-v1",
        "State     active",
        "Checks    1 of 1 passed",
        "Badges    hash-verified",
    ]
    assert outcome.stderr.splitlines() == ["Mind this.", "  ✓ Bytes hash to the CID 1/1 3 ms"]


def test_register_waits_until_the_checks_are_done(infra: Infra, registry: PlayedServer) -> None:
    registry.on(
        "GET",
        f"{V}/verification",
        as_json({"state": "queued", "checks": []}),
        as_json({"state": "running", "checks": CHECKS[:1]}),
        as_json({"state": "failed", "reason": "Output 1 differs.", "checks": CHECKS}),
    )
    outcome = infra("register", "--model", "echo")
    assert outcome.status == 1
    assert outcome.stderr.splitlines()[1:5] == [
        "  ✓ Bytes hash to the CID 1/1 3 ms",
        "  ✗ Examples give their golden outputs 1/2 9 ms ",
        "    /text differs",
        "Error: echo-v1@1.0.0 did not pass its verification: Output 1 differs.",
    ]


def test_register_does_not_wait_for_a_person(infra: Infra, registry: PlayedServer) -> None:
    waiting = {"state": "waiting-for-review", "reason": "Waiting for a review.", "checks": []}
    registry.on("GET", f"{V}/verification", as_json(waiting))
    document = json.loads(registry.answers["GET", V][0].body)
    pending = document | {"state": "pending", "state_reason": "Waiting for a review."}
    registry.on("GET", V, as_json(pending))
    outcome = infra("register", "--model", "echo")
    assert outcome.status == 0
    assert "State     pending (Waiting for a review.)" in outcome.stdout.splitlines()


def test_register_does_not_wait_longer_than_asked(infra: Infra, registry: PlayedServer) -> None:
    registry.on("GET", f"{V}/verification", as_json({"state": "running", "checks": []}))
    outcome = infra("register", "--model", "echo", "--timeout", "0", "--json")
    assert outcome.status == 1
    assert (
        json.loads(outcome.stderr.splitlines()[-1])["type"] == "/problems/verification-unfinished"
    )


def test_register_without_waiting_asks_for_no_verification(
    infra: Infra, registry: PlayedServer
) -> None:
    outcome = infra("register", "--model", "echo", "--no-wait", "--json")
    document = json.loads(outcome.stdout)
    assert (outcome.status, document["created"], document["verification"]) == (0, True, None)
    assert not any(asked.path.endswith("/verification") for asked in registry.asked)


def test_a_registry_that_computes_another_cid_is_reported(
    infra: Infra, registry: PlayedServer
) -> None:
    registry.on("POST", BASE, as_json(version_document("bafkreiother"), 201))
    outcome = infra("register", "--model", "echo")
    assert outcome.status == 1
    assert "The server registered bafkreiother, but what was sent hashes to" in outcome.stderr


def test_a_reference_is_sent_as_json(infra: Infra, registry: PlayedServer, package: Path) -> None:
    cid = packed(package)[1]
    assert infra("register", "--reference", "ar://tx", "--cid", cid).status == 0
    assert json.loads(registry.asked[0].body) == {"reference": "ar://tx", "cid": cid}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "other-v1"], "--name says other-v1, echo/model.yaml says echo-v1."),
        (["--version", "1.1"], "--version says 1.1.0, echo/model.yaml says 1.0."),
        (["--name", "X"], "'X' is not a model name."),
    ],
)
def test_options_that_contradict_the_manifest_send_nothing(
    infra: Infra, registry: PlayedServer, arguments: list[str], words: str
) -> None:
    outcome = infra("register", "--model", "echo", *arguments)
    assert (outcome.status, registry.asked) == (2, [])
    assert words in outcome.stderr


def test_a_declared_cid_that_the_directory_lacks_sends_nothing(
    infra: Infra, registry: PlayedServer, package: Path
) -> None:
    cid = packed(package)[1]
    (package / "weights.bin").write_bytes(b"other")
    outcome = infra("register", "--model", "echo", "--cid", cid)
    assert (outcome.status, registry.asked) == (1, [])
    assert f"not to the declared {cid}" in outcome.stderr


@pytest.mark.parametrize("text", [b"name: [", b"- a\n- b\n", b"", b"\xff\xfe\x00", b"a: \x00"])
def test_a_manifest_that_is_none_sends_nothing(
    infra: Infra, registry: PlayedServer, package: Path, text: bytes
) -> None:
    (package / "model.yaml").write_bytes(text)
    outcome = infra("register", "--model", "echo")
    assert (outcome.status, registry.asked) == (1, [])
    assert "echo/model.yaml is not a manifest" in outcome.stderr


def test_list_asks_page_after_page_up_to_the_limit(infra: Infra, registry: PlayedServer) -> None:
    one = version_document("bafkreione", description="two\nlines\x1b[31m")
    registry.on(
        "GET",
        BASE,
        as_json({"results": [one, one], "next": f"{registry.url}{BASE}?cursor=c2"}),
        as_json({"results": [one, one], "next": f"{registry.url}{BASE}?cursor=c3"}),
    )
    outcome = infra("model", "list", "say", "it", "--task", "ocr", "--limit", "3", "--sort", "name")
    line = "echo-v1\t1.0.0\ttext-generation\t0.25 IFM\tonnx\tactive\ttwo lines\ufffd[31m"
    assert outcome.stdout.splitlines() == [line] * 3
    assert "There are more than these 3" in outcome.stderr
    assert "text" not in outcome.stderr
    assert registry.asked[1].path == f"{BASE}?cursor=c2"


def test_nothing_found_is_told_on_stderr(infra: Infra, registry: PlayedServer) -> None:
    registry.on("GET", BASE, as_json({"results": [], "next": None}))
    assert (infra("model", "list").stdout, infra("model", "list", "--json").stdout) == ("", "[]\n")


def test_a_node_of_the_marketplace_itself_says_so_and_its_models_stand_in_line(
    infra: Infra, registry: PlayedServer
) -> None:
    node = {
        "name": "node-a", "state": "ready", "state_reason": "", "operator": "0x" + "0" * 40,
        "trusted": True, "backends": ["onnx"], "capacity": 8, "gpu_count": 0,
        "privacy_runtimes": [], "isolation": "", "probed_at": "2026-11-24T10:00:00.123456Z",
        "reputation": None, "rated_calls": 12, "paid_calls": True,
        "models": [
            {"version": "a-v1@1.0.0", "state": "ready"},
            {"version": "b-v1@1.0.0", "state": "ready"},
        ],
    }  # fmt: skip
    registry.on("GET", "/api/v1/nodes", as_json({"nodes": [node]}))
    assert infra("node", "list").stdout == "node-a\tready\t8\t0\t2\tthis marketplace\t-\n"
    rows = infra("node", "status", "node-a").stdout.splitlines()
    assert "Operator    this marketplace" in rows
    assert "Reputation  not rated yet (12 calls so far)" in rows
    assert rows[-3:] == [
        "Last probe  2026-11-24T10:00:00Z",
        "Model       a-v1@1.0.0 (ready)",
        "Model       b-v1@1.0.0 (ready)",
    ]


def test_with_json_what_is_to_be_known_stands_in_the_result(
    infra: Infra, registry: PlayedServer, package: Path
) -> None:
    (package / ".hidden").write_text("left out")
    outcome = infra("register", "--model", "echo", "--no-wait", "--json")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout)["notices"] == ["Left out: .hidden", "Mind this."]


@pytest.mark.parametrize(("calls", "words"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls")])
def test_calls_are_counted_in_their_number(calls: int, words: str) -> None:
    window = {"label": "24 h", "calls": calls, "success_rate": None}
    assert listing.figures({"windows": [window]}) == [f"  24 h  · {words} · not enough data"]


def test_show_tells_how_to_call(infra: Infra, registry: PlayedServer) -> None:
    outcome = infra("model", "show", "echo-v1")
    assert outcome.status == 0
    for line in (
        "echo-v1@1.0.0  active",
        "Fee         0.25 IFM",
        "  text  string  What to say.",
        "  n  integer (optional)",
        "  not enough data",
        """  infra call --model echo-v1 'text=it'"'"'s me'""",
    ):
        assert line in outcome.stdout.splitlines()


def test_a_model_that_answers_in_pieces_is_called_with_stream() -> None:
    document = {"name": "echo-v1", "streaming": True, "auth_required": True}
    said = listing.how_to_call({**document, "examples": [{"input": {"text": "hi"}}]})
    assert said == ["infra login", "infra call --stream --model echo-v1 text=hi"]
    assert listing.how_to_call(document)[-1].endswith("--stream --model echo-v1 --input input.json")


def test_export_gives_back_exactly_what_was_registered(
    infra: Infra, registry: PlayedServer, package: Path, tmp_path: Path
) -> None:
    outcome = infra("model", "export", "echo-v1", "--output", "back", "--json")
    assert (outcome.status, json.loads(outcome.stdout)["cid"]) == (0, packed(package)[1])
    assert packed(tmp_path / "back") == packed(package)
    assert infra("model", "export", "echo-v1", "--output", "echo.tar").status == 0
    assert (tmp_path / "echo.tar").read_bytes() == packed(package)[0]
    assert infra("model", "export", "echo-v1").status == 0
    assert packed(tmp_path / "echo-v1-1.0.0") == packed(package)


def other_package() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.yaml"), io.BytesIO())
    return buffer.getvalue()


@pytest.mark.parametrize("command", ["export", "verify"])
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(other_package()), "cid-mismatch"),
        (Answer(other_package()[:300]), "package-refused"),
        (Answer(other_package()[:600], cut=True), "connection-broke"),
        (Answer(b"no tar"), "package-refused"),
    ],
)
def test_bytes_that_are_not_the_packages_are_refused_and_not_kept(
    infra: Infra, registry: PlayedServer, tmp_path: Path, command: str, answer: Answer, code: str
) -> None:
    registry.on("GET", f"{V}/package", answer)
    before = sorted(tmp_path.iterdir())
    outcome = infra("model", command, "echo-v1", "--json")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert json.loads(outcome.stderr)["type"] == f"/problems/{code}"
    assert sorted(tmp_path.iterdir()) == before


def test_export_refuses_another_content_than_asked_for(
    infra: Infra, registry: PlayedServer
) -> None:
    outcome = infra("model", "export", "echo-v1", "--cid", "bafkreiwanted")
    assert outcome.status == 1
    assert "not as bafkreiwanted" in outcome.stderr


def test_export_replaces_only_an_earlier_export_and_only_when_told(
    infra: Infra, registry: PlayedServer, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("mine")
    assert infra("model", "export", "echo-v1", "-o", "precious", "--force").status == 2
    assert (precious / "thesis.txt").read_text() == "mine"
    assert infra("model", "export", "echo-v1", "-o", "there").status == 0
    (tmp_path / "there" / "weights.bin").write_bytes(b"changed")
    assert infra("model", "export", "echo-v1", "-o", "there").status == 2
    assert infra("model", "export", "echo-v1", "-o", "there", "--force").status == 0
    assert (tmp_path / "there" / "weights.bin").read_bytes() == b"\x07" * 3000


def test_verify_shows_the_computed_cid_and_the_evidence(
    infra: Infra, registry: PlayedServer, package: Path
) -> None:
    outcome = infra("model", "verify", "echo-v1@1.0")
    assert outcome.status == 0
    assert f"CID       {packed(package)[1]} (computed here, as registered)" in outcome.stdout
    assert "  ✓ Bytes hash to the CID 1/1 3 ms" in outcome.stdout.splitlines()


def test_verify_fails_when_the_registrys_own_checks_did(
    infra: Infra, registry: PlayedServer
) -> None:
    failed = {"state": "failed", "reason": "It crashed.", "checks": CHECKS}
    registry.on("GET", f"{V}/verification", as_json(failed))
    outcome = infra("model", "verify", "echo-v1")
    assert outcome.status == 1
    assert "did not pass its verification: It crashed." in outcome.stderr


CALL_HEADERS = {
    "Inframind-Model": "echo-v1@1.0.0",
    "Inframind-Node": "node-a",
    "Inframind-Fee": "0.25 IFM",
    "Inframind-Receipt": "0198c0de-0000-7000-8000-000000000000",
    "Server-Timing": "validate;dur=0.2, infer;dur=11.0, total;dur=12.5",
}


def test_call_gives_the_answer_as_it_came_and_the_facts_beside_it(
    infra: Infra, registry: PlayedServer, tmp_path: Path
) -> None:
    (tmp_path / "test.json").write_bytes(b'{"text": "hi"}\n')
    registry.on(
        "POST", "/inference/v1/echo-v1@1.0.0", Answer(b'{"n": 1.0e1}', headers=CALL_HEADERS)
    )
    arguments = ["--model", "echo-v1@1.0", "--input", "test.json", "--budget", "2.5", "IFM"]
    outcome = infra("call", *arguments, "--idempotency-key", "k-1")
    asked = registry.asked[0]
    assert (outcome.status, outcome.stdout) == (0, '{"n": 1.0e1}\n')
    assert asked.body == b'{"text": "hi"}\n'
    assert (asked.headers["Inframind-Budget"], asked.headers["Idempotency-Key"]) == (
        "2.5 IFM",
        "k-1",
    )
    first, second = outcome.stderr.splitlines()
    assert first.startswith("echo-v1@1.0.0 · on node-a · fee 0.25 IFM · ")
    assert first.endswith(" ms (12 ms in the mesh)")
    assert second == "receipt 0198c0de-0000-7000-8000-000000000000"


def test_a_failed_call_names_its_receipt(infra: Infra, registry: PlayedServer) -> None:
    failed = {"detail": "The model failed.", "charged": False, "retry_safe": True}
    answer = Answer(json.dumps(failed).encode(), 502, {"Inframind-Receipt": "r-1"})
    registry.on("POST", "/inference/v1/echo-v1", answer)
    outcome = infra("call", "--model", "echo-v1", "text=hi")
    assert outcome.status == 1
    assert outcome.stderr.splitlines() == [
        "Error: The model failed.",
        "Nothing was charged. Trying again is safe.",
        "receipt r-1",
    ]


def test_call_gives_programs_the_facts_as_json(infra: Infra, registry: PlayedServer) -> None:
    deprecated = CALL_HEADERS | {"Deprecation": "@1", "Sunset": "Sat, 01 Jan 2028 00:00:00 GMT"}
    registry.on("POST", "/inference/v1/echo-v1", Answer(b'{"n":1}', headers=deprecated))
    outcome = infra("call", "--model", "echo-v1", "--budget", "2.5IFM", "--json", "text=hi")
    facts = json.loads(outcome.stderr)
    assert (outcome.stdout, facts["node"], facts["fee"]) == ('{"n":1}\n', "node-a", "0.25 IFM")
    assert (facts["server_ms"], facts["deprecated"]) == (12.5, True)
