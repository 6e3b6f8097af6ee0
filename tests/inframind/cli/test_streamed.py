"""``infra call --stream``: a piece a line as it comes, and an answer that breaks off."""

from __future__ import annotations

import json

import pytest

from tests.inframind.cli.conftest import Answer, Infra, PlayedServer

PATH = "/inference/v1/story-v1"
KIND = "text/event-stream"
PIECES = b': waiting\n\ndata: {"text": "Once"}\n\ndata: {"text": "\\u001b[2J"}\n\n'
DONE = {
    "model": "story-v1@1.0.0",
    "receipt": "r-1",
    "fee": {"base_units": "250000000000000000", "text": "0.25 IFM"},
    "node": "node-a",
    "pieces": 2,
}
CALL = ("call", "--model", "story-v1", "--stream", "text=hi")


@pytest.fixture
def registry(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    monkeypatch.setenv("INFRA_URL", server.url)
    return server


def streamed(*events: bytes) -> Answer:
    return Answer(b"".join(events), headers={"Content-Type": KIND, "Inframind-Receipt": "r-1"})


def event(kind: str, document: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(document)}\n\n".encode()


def test_pieces_are_lines_and_the_end_tells_the_facts(infra: Infra, registry: PlayedServer) -> None:
    registry.on("POST", PATH, streamed(PIECES, event("done", DONE)))

    outcome = infra(*CALL)

    assert outcome.status == 0, outcome.stderr
    assert [json.loads(line) for line in outcome.stdout.splitlines()] == [
        {"text": "Once"},
        {"text": "\x1b[2J"},
    ]
    assert "\x1b" not in outcome.stdout
    assert "story-v1@1.0.0 · on node-a · fee 0.25 IFM" in outcome.stderr
    assert "2 pieces, the first after" in outcome.stderr
    assert registry.asked[-1].headers["Accept"] == KIND


def test_one_piece_is_counted_as_one(infra: Infra, registry: PlayedServer) -> None:
    one = event("message", {"text": "Once"})
    registry.on("POST", PATH, streamed(one, event("done", {**DONE, "pieces": 1})))
    assert "· 1 piece, the first after" in infra(*CALL).stderr


def test_json_facts_count_the_pieces(infra: Infra, registry: PlayedServer) -> None:
    registry.on("POST", PATH, streamed(PIECES, event("done", DONE)))

    facts = json.loads(infra(*CALL, "--json").stderr)

    assert (facts["pieces"], facts["receipt"], facts["fee"]) == (2, "r-1", "0.25 IFM")


def test_an_error_event_is_a_failure_after_its_pieces(infra: Infra, registry: PlayedServer) -> None:
    problem = {"type": "/problems/model-failed", "detail": "Out of words.", "status": 502}
    registry.on("POST", PATH, streamed(PIECES, event("error", {**problem, "charged": False})))

    outcome = infra(*CALL)

    assert outcome.status == 1
    assert len(outcome.stdout.splitlines()) == 2
    assert "Out of words." in outcome.stderr
    assert "r-1" in outcome.stderr


def test_an_answer_without_an_end_may_have_been_charged(
    infra: Infra, registry: PlayedServer
) -> None:
    registry.on("POST", PATH, streamed(PIECES))

    outcome = infra(*CALL, "--json")

    assert outcome.status == 1
    problem = json.loads(outcome.stderr)
    assert (problem["type"], problem["charged"]) == ("/problems/connection-broke", None)
    assert "infra receipt show r-1" in problem["remedy"]


def test_streaming_a_batch_is_wrong_usage(infra: Infra) -> None:
    assert infra("call", "--model", "story-v1", "--stream", "--batch", "-").status == 2


def test_a_model_of_pieces_called_without_it_says_how(infra: Infra, registry: PlayedServer) -> None:
    problem = {"type": "/problems/stream-only", "detail": "It answers in pieces.", "status": 406}
    registry.on("POST", PATH, Answer(json.dumps(problem).encode(), status=406))

    outcome = infra("call", "--model", "story-v1", "text=hi")

    assert outcome.status == 1
    assert "--stream" in outcome.stderr
