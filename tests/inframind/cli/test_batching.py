"""``infra call --batch``: what is sent for a file of documents, and what is made of the answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.inframind.cli.conftest import TOKEN, Answer, Infra, PlayedServer

PATH = "/inference/v1/echo-v1/batch"
SERVED = {"status": 200, "output": {"said": "hi"}, "receipt": "r-1", "fee": "0.25 IFM", "node": "a"}
REFUSED = {
    "status": 422,
    "problem": {
        "type": "/problems/invalid-input",
        "detail": "No text.",
        "charged": False,
        "violations": [{"pointer": "/text", "detail": "is missing"}],
    },
    "receipt": "r-2",
    "fee": "0 IFM",
    "node": None,
}


@pytest.fixture
def registry(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    monkeypatch.setenv("INFRA_URL", server.url)
    monkeypatch.setenv("INFRA_TOKEN", TOKEN)
    return server


def answer(*results: dict[str, Any]) -> Answer:
    served = sum(each["status"] == 200 for each in results)
    document = {
        "model": "echo-v1@1.0.0",
        "served": served,
        "fee": {"base_units": "0", "text": f"{served * 0.25} IFM"},
        "results": results,
    }
    return Answer(json.dumps(document).encode())


@pytest.mark.parametrize("text", ['[{"text": "hi"}, 7]', '{"text": "hi"}\n\n7\n'])
def test_an_array_and_lines_are_the_same_batch(
    infra: Infra, registry: PlayedServer, tmp_path: Path, text: str
) -> None:
    (tmp_path / "texts").write_text(text)
    registry.on("POST", PATH, answer(SERVED, SERVED))

    outcome = infra("call", "--model", "echo-v1", "--batch", str(tmp_path / "texts"))

    assert outcome.status == 0, outcome.stderr
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [SERVED, SERVED]
    assert "2 of 2 served · fee 0.5 IFM" in outcome.stderr
    assert json.loads(registry.asked[-1].body) == [{"text": "hi"}, 7]


def test_a_batch_comes_from_stdin_with_key_and_budget(
    infra: Infra, registry: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "hi"}')))
    registry.on("POST", PATH, answer(SERVED))
    options = ("--budget", "2.5IFM", "--idempotency-key", "k-1", "--json")

    outcome = infra("call", "--model", "echo-v1", "--batch", "-", *options)

    assert outcome.status == 0, outcome.stderr
    sent = registry.asked[-1].headers
    assert (sent["Inframind-Budget"], sent["Idempotency-Key"]) == ("2.5 IFM", "k-1")
    facts = json.loads(outcome.stderr)
    assert facts.pop("latency_ms") >= 0
    assert facts == {"model": "echo-v1@1.0.0", "inputs": 1, "served": 1, "fee": "0.25 IFM"}


def test_inputs_that_were_not_served_are_named_and_end_with_1(
    infra: Infra, registry: PlayedServer, tmp_path: Path
) -> None:
    (tmp_path / "texts").write_text("[1, 2]")
    registry.on("POST", PATH, answer(SERVED, REFUSED))

    outcome = infra("call", "--model", "echo-v1", "--batch", str(tmp_path / "texts"))

    assert outcome.status == 1
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [SERVED, REFUSED]
    assert "input 2: No text.\n  /text: is missing\n" in outcome.stderr
    assert "1 of 2 served" in outcome.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no documents"),
        ("[\n]\n", "has no documents"),
        ("[1, 2", "is not JSON"),
        ('{"a": 1}\n{"b"\n', "document 2 is not JSON"),
        ('{"a": NaN}', "document 1 is not JSON"),
    ],
)
def test_a_file_that_is_no_batch_is_wrong_usage(
    infra: Infra, registry: PlayedServer, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "texts").write_text(text)
    outcome = infra("call", "--model", "echo-v1", "--batch", str(tmp_path / "texts"))
    assert outcome.status == 2
    assert told in outcome.stderr
    assert registry.asked == []


def test_a_batch_beside_another_input_is_wrong_usage(infra: Infra) -> None:
    outcome = infra("call", "--model", "echo-v1", "--batch", "f", "text=hi")
    assert outcome.status == 2
    assert "--batch" in outcome.stderr


def test_an_answer_without_results_is_not_taken_for_one(
    infra: Infra, registry: PlayedServer, tmp_path: Path
) -> None:
    (tmp_path / "texts").write_text("[1]")
    registry.on("POST", PATH, Answer(b'{"served": 1}'))
    outcome = infra("call", "--model", "echo-v1", "--batch", str(tmp_path / "texts"))
    assert outcome.status == 1
    assert "did not answer with results" in outcome.stderr
