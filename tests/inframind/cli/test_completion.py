"""The shell's completion: commands and options, and names of models where the server is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inframind.cli.completion import model_names
from tests.inframind.cli.conftest import Answer, Infra, PlayedServer


def completed(line: str, **environment: str) -> list[str]:
    """What bash is given for a line, cursor at its end."""
    done = subprocess.run(
        [sys.executable, "-m", "inframind.cli"],
        capture_output=True, text=True, check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "_INFRA_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        | environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options_are_completed() -> None:
    assert completed("infra to") == ["token"]
    assert completed("infra token ge") == ["generate"]
    assert completed("infra token generate --exp") == ["--expires-in"]
    assert completed("infra model access re") == ["remove", "requests", "refuse"]
    assert completed("infra token generate --action p") == ["publish"]
    assert completed("infra de") == ["deposit"]
    assert completed("infra rewards c") == ["claim"]
    assert completed("infra withdraw 1IFM --re") == ["--relay"]


def test_names_of_models_come_from_the_server(
    server: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"results": [{"name": "asr-v1"}], "next": "http://x/api/v1/models?cursor=c2"}
    second = {"results": [{"name": "ocr-v1"}, {"name": "ocr-v2"}], "next": None}
    server.on("GET", "/api/v1/models", *(Answer(json.dumps(d).encode()) for d in (first, second)))
    monkeypatch.setenv("INFRA_URL", server.url)
    assert model_names("ocr") == ["ocr-v1", "ocr-v2"]
    assert server.asked[1].path == "/api/v1/models?cursor=c2"
    assert completed("infra model show oc") == ["ocr-v1", "ocr-v2"]
    assert completed("infra rewards claim --model oc") == ["ocr-v1", "ocr-v2"]


@pytest.mark.parametrize(
    "answer", [Answer(b"<html>"), Answer(b"[]"), Answer(b"{}", 500), Answer(b"x", cut=True)]
)
def test_a_server_that_makes_no_sense_completes_nothing(
    server: PlayedServer, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    server.on("GET", "/api/v1/models", answer)
    monkeypatch.setenv("INFRA_URL", server.url)
    assert completed("infra call --model o") == []


def test_a_server_that_is_slow_or_away_completes_nothing(
    server: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    server.on("GET", "/api/v1/models", Answer(delay=release))
    monkeypatch.setenv("INFRA_URL", server.url)
    assert model_names("o") == []
    release.set()
    monkeypatch.setenv("INFRA_URL", "http://127.0.0.1:1")
    assert model_names("o") == []
    monkeypatch.setenv("INFRA_URL", "nonsense")
    assert model_names("o") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_of_the_shells_are_shown(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inframind.cli"],
        capture_output=True, text=True, check=False,
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "_INFRA_COMPLETE": f"source_{shell}",
        },
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "_INFRA_COMPLETE" in done.stdout
    assert "complete" in done.stdout


def test_the_help_groups_the_commands_and_shows_the_first_steps(infra: Infra) -> None:
    shown = infra("--help").stdout.splitlines()
    panels = [line for line in shown if line in ("Account:", "Models:", "Calling:", "Nodes:")]
    assert panels == ["Account:", "Models:", "Calling:", "Nodes:"]
    assert "Commands:" not in shown
    assert any("infra login" in line for line in shown)
    assert infra().stdout.splitlines() == shown
