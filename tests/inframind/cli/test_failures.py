"""What the network, the server and the configuration may do, and what the command says then."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inframind.cli.terminal import plain
from tests.inframind.cli.conftest import TOKEN, Answer, Infra, PlayedServer

PROBLEM = {
    "type": "/problems/schema-violation",
    "title": "Schema violation",
    "status": 422,
    "detail": "The document breaks the input schema.",
    "charged": False,
    "retry_safe": False,
    "remedy": "Mend the document.",
    "violations": [{"pointer": "/text", "detail": "7 is not a string.", "remedy": "", "line": 3}],
}


def problem(status: int = 422, **changes: object) -> Answer:
    body = json.dumps(PROBLEM | {"status": status} | changes).encode()
    return Answer(body, status, {"Content-Type": "application/problem+json"})


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def at_server(server: PlayedServer, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    monkeypatch.setenv("INFRA_URL", server.url)
    return server


def test_a_refused_connection_names_the_address_and_how_to_change_it(
    infra: Infra, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_URL", f"http://127.0.0.1:{free_port}/")
    outcome = infra("model", "list")
    lines = outcome.stderr.splitlines()
    assert (outcome.status, outcome.stdout) == (1, "")
    assert lines[0].startswith(
        f"Error: No server answers at http://127.0.0.1:{free_port} (from INFRA_URL): "
    )
    assert "export INFRA_URL=" in lines[1]
    assert lines[2] == "Nothing was charged. Trying again is safe."


def test_the_config_file_names_the_server_and_the_environment_wins(
    infra: Infra,
    server: PlayedServer,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config = tmp_path / "config" / "infra" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'url = "{server.url}"\n')
    server.on("POST", "/inference/v1/m", Answer(b'{"a":1}'))
    assert infra("call", "--model", "m", "a=1").stdout == '{"a":1}\n'
    monkeypatch.setenv("INFRA_URL", f"http://127.0.0.1:{free_port}")
    assert infra("call", "--model", "m", "a=1").status == 1


@pytest.mark.parametrize(
    "text", ["url = ", "url = 7", 'url = "ftp://a"', 'url = "http://"', "keystore = 7", 'uri = "x"']
)
def test_a_config_file_that_cannot_be_used_is_named(
    infra: Infra, tmp_path: Path, text: str
) -> None:
    config = tmp_path / "config" / "infra" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)
    outcome = infra("model", "list")
    assert outcome.status == 2
    assert str(config) in outcome.stderr


def test_an_unknown_key_of_the_config_file_is_told_with_the_known_ones(
    infra: Infra, tmp_path: Path
) -> None:
    config = tmp_path / "config" / "infra" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('token = "infra_secret"')
    outcome = infra("model", "list")
    assert outcome.stderr.splitlines() == [
        f"Error: {config} sets 'token', which is unknown.",
        "Known are: url, keystore.",
    ]


@pytest.mark.parametrize("option", ["sort", "whoami"])
@pytest.mark.parametrize("secret", [TOKEN, "0x" + "1f" * 32])
def test_a_secret_typed_by_mistake_is_not_shown(infra: Infra, option: str, secret: str) -> None:
    arguments = ["whoami", secret] if option == "whoami" else ["model", "list", "--sort", secret]
    outcome = infra(*arguments)
    assert outcome.status == 2
    assert secret not in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "http://u:p@host", "http://host?x=1", "http://host:99999", "http://[::1"],
)
def test_an_address_that_cannot_be_used_is_wrong_usage(
    infra: Infra, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("INFRA_URL", url)
    outcome = infra("model", "list")
    assert outcome.status == 2
    assert "INFRA_URL" in outcome.stderr


def test_a_problem_document_becomes_sentences(infra: Infra, at_server: PlayedServer) -> None:
    at_server.on("POST", "/inference/v1/m", problem())
    outcome = infra("call", "--model", "m", "text:=7")
    assert outcome.status == 1
    assert outcome.stderr.splitlines() == [
        "Error: The document breaks the input schema.",
        "  line 3, /text: 7 is not a string.",
        "Mend the document.",
        "Nothing was charged. The same request would be refused again: mend the cause first.",
    ]


def test_with_json_a_problem_stays_the_servers_document(
    infra: Infra, at_server: PlayedServer
) -> None:
    at_server.on("POST", "/inference/v1/m", problem())
    outcome = infra("call", "--model", "m", "text:=7", "--json")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert json.loads(outcome.stderr) == PROBLEM


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("not-found", 404, "infra model list"),
        ("token-required", 401, "export INFRA_TOKEN="),
        ("invalid-token", 401, "infra login"),
        ("insufficient-scope", 403, "unset INFRA_TOKEN"),
        ("over-budget", 402, "--budget"),
    ],
)
def test_a_remedy_is_told_in_the_words_of_the_command_line(
    infra: Infra, at_server: PlayedServer, code: str, status: int, words: str
) -> None:
    changes = {"type": f"/problems/{code}", "detail": "There is no model called m."}
    answer = problem(status, violations=[], remedy="Send a header.", **changes)
    at_server.on("POST", "/inference/v1/m", answer)
    outcome = infra("call", "--model", "m", "a=1")
    assert words in outcome.stderr.splitlines()[1]
    assert "header" not in outcome.stderr


def test_a_name_that_does_not_exist_is_not_worth_another_try(
    infra: Infra, at_server: PlayedServer
) -> None:
    missing = problem(404, violations=[], retry_safe=True, detail="There is no model called m.")
    at_server.on("POST", "/inference/v1/m", missing)
    outcome = infra("call", "--model", "m", "a=1")
    assert outcome.stderr.splitlines()[-1] == "Nothing was charged."


def test_when_to_come_back_is_told(infra: Infra, at_server: PlayedServer) -> None:
    answer = problem(503, violations=[], retry_safe=True, detail="No node is ready.")
    answer.headers["Retry-After"] = "5"
    at_server.on("POST", "/inference/v1/m", answer)
    outcome = infra("call", "--model", "m", "a=1")
    assert "Nothing was charged. Trying again in 5 s is safe." in outcome.stderr


@pytest.mark.parametrize("status", [401, 403])
def test_not_signed_in_and_not_allowed_have_their_own_status(
    infra: Infra, at_server: PlayedServer, status: int
) -> None:
    at_server.on("GET", "/api/v1/models", problem(status, violations=[]))
    assert infra("model", "list").status == 4


def test_without_a_token_nothing_is_sent(
    infra: Infra, at_server: PlayedServer, tmp_path: Path
) -> None:
    (tmp_path / "model.yaml").write_text("name: my-model-v1\nversion: 1.0\n")
    outcome = infra("register", "--model", "model.yaml")
    assert outcome.status == 4
    assert "infra login" in outcome.stderr
    assert at_server.asked == []


def test_the_token_is_sent_and_never_shown(
    infra: Infra, at_server: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_TOKEN", f" {TOKEN}\n")
    at_server.on("POST", "/inference/v1/m", Answer(b"{}"))
    outcome = infra("call", "--model", "m", "a=1", "--json")
    assert at_server.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in outcome.stdout + outcome.stderr
    monkeypatch.setenv("INFRA_TOKEN", f"{TOKEN}\nX-Evil: 1")
    outcome = infra("call", "--model", "m", "a=1")
    assert outcome.status == 2
    assert TOKEN not in outcome.stderr


def test_a_redirect_is_told_and_not_followed(
    infra: Infra, at_server: PlayedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_TOKEN", TOKEN)
    moved = Answer(b"", 301, {"Location": f"{at_server.url}/elsewhere"})
    at_server.on("GET", "/api/v1/models", moved)
    outcome = infra("model", "list")
    assert outcome.status == 1
    assert f"{at_server.url}/elsewhere" in outcome.stderr
    assert len(at_server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b"[]", b"\xff\xfe", b""])
def test_an_answer_without_explanation_is_told_as_such(
    infra: Infra, at_server: PlayedServer, body: bytes
) -> None:
    at_server.on("GET", "/api/v1/models/m", Answer(body, 502))
    outcome = infra("model", "show", "m")
    assert outcome.status == 1
    assert f"{at_server.url}/api/v1/models/m answered with status 502" in outcome.stderr


def test_a_success_that_is_no_json_object_is_told(infra: Infra, at_server: PlayedServer) -> None:
    at_server.on("GET", "/api/v1/models/m", Answer(b"<html>hello</html>"))
    outcome = infra("model", "show", "m")
    assert outcome.status == 1
    assert "did not answer with a JSON object" in outcome.stderr


def test_a_call_cut_off_says_that_the_charge_is_unknown(
    infra: Infra, at_server: PlayedServer
) -> None:
    at_server.on("POST", "/inference/v1/m", Answer(b'{"half":', cut=True))
    outcome = infra("call", "--model", "m", "a=1")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "Whether anything was charged is not known here." in outcome.stderr
    assert "--idempotency-key" in outcome.stderr


def test_an_answer_that_cannot_be_unpacked_is_a_connection_that_broke(
    infra: Infra, at_server: PlayedServer
) -> None:
    packed = Answer(b"no gzip", headers={"Content-Encoding": "gzip"})
    at_server.on("POST", "/inference/v1/m", packed)
    outcome = infra("call", "--model", "m", "a=1")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "Whether anything was charged is not known here." in outcome.stderr


def test_a_call_that_takes_too_long_ends(infra: Infra, at_server: PlayedServer) -> None:
    release = threading.Event()
    at_server.on("POST", "/inference/v1/m", Answer(delay=release))
    outcome = infra("call", "--model", "m", "--timeout", "0.2", "a=1")
    release.set()
    assert outcome.status == 1
    assert "did not answer in time" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "shw"], "Did you mean 'show'?"),
        (["call", "--model", "m"], "There is no input document."),
        (["call", "a=1"], "No model is named."),
        (["call", "--model", "m", "a=1", "--data", "{}"], "in two ways"),
        (["call", "--model", "m", "--data", "{"], "--data is not JSON"),
        (["call", "--model", "m", "a=1", "--budget", "-1"], "--budget: '-1' is not an amount."),
        (["call", "--model", "m", "a=1", "--timeout", "0"], "--timeout"),
        (["call", "--model", "m@1.0", "a=1", "--version", "2.0"], "Two versions are named"),
        (["call", "--model", "m@x", "a=1"], "is not a semantic version"),
        (["model", "show"], "No model is named."),
        (["model", "show", "a", "--name", "b"], "Two models are named"),
        (["model", "list", "--limit", "0"], "--limit"),
        (["model", "list", "--runtime", "wasm"], "--runtime"),
        (["register"], "Exactly one of --model and --reference"),
        (["call", "echo-v1", "a=1"], "infra call --model echo-v1"),
        (["call", "echo-v1@1.0", "a=1"], "infra call --model echo-v1@1.0"),
        (["register", "--model", "nowhere"], "There is no nowhere."),
        (["register", "--model", "/dev/null"], "/dev/null is neither a directory nor a model.yaml"),
        (["register", "--model", "."], "There is no model.yaml in /"),
        (["register", "--reference", "ar://x"], "A reference needs --cid"),
        (["register", "--reference", "ar://x", "--cid", "Qm"], "is not a CID"),
        (["--nothing"], "No such option"),
    ],
)
def test_wrong_usage_is_status_two_and_says_what_is_wrong(
    infra: Infra, arguments: list[str], words: str
) -> None:
    outcome = infra(*arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert words in outcome.stderr


def test_wrong_usage_is_a_problem_document_with_json(infra: Infra) -> None:
    outcome = infra("call", "--model", "m", "--json")
    assert outcome.status == 2
    assert json.loads(outcome.stderr)["type"] == "/problems/wrong-usage"


def test_text_of_strangers_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[2Jb\u202ec\rd\x9be\tf\n") == "a\ufffd[2Jb\ufffdc\ufffdd\ufffde\tf\n"


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command as a terminal does; what still runs after the test is ended."""
    running: list[subprocess.Popen[str]] = []
    # A shell has what it starts in the background ignore Ctrl-C, the tests and their programs too.
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
        root = str(Path(__file__).parents[3])
        process = subprocess.Popen(
            [sys.executable, "-m", "inframind.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": root} | environment,
        )
        running.append(process)
        return process

    yield start
    signal.signal(signal.SIGINT, ctrl_c)
    for process in running:
        process.kill()
        process.communicate()


def test_ctrl_c_ends_quietly_with_130(
    at_server: PlayedServer, started: Callable[..., subprocess.Popen[str]]
) -> None:
    release = threading.Event()
    asked = threading.Event()

    class Told(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            asked.set()
            return release.wait(timeout)

    at_server.on("POST", "/inference/v1/m", Answer(delay=Told()))
    process = started("call", "--model", "m", "a=1")
    assert asked.wait(20)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=20)
    release.set()
    assert (process.returncode, stdout, stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ({"scope": "invoke", "model": "m"}, "infra token generate --model m --expires-in 24h"),
        ({"scope": "invoke"}, "infra token generate --model NAME --expires-in 24h"),
        ({"scope": "invoke", "model": "m; rm"}, "--model 'm; rm' --expires-in"),
        ({"scope": "read:usage"}, "--model NAME --action read:usage --expires-in 24h"),
        ({"scope": "account"}, "Only the wallet itself may: unset INFRA_TOKEN"),
        ({}, "unset INFRA_TOKEN"),
    ],
)
def test_a_scope_that_is_missing_is_named_with_the_command_that_gives_it(
    infra: Infra, at_server: PlayedServer, missing: dict[str, str], words: str
) -> None:
    answer = problem(403, type="/problems/insufficient-scope", violations=[], **missing)
    at_server.on("POST", "/inference/v1/m", answer)
    outcome = infra("call", "--model", "m", "a=1")
    assert outcome.status == 4
    assert words in outcome.stderr.splitlines()[1]


def test_a_reader_that_leaves_gets_no_traceback(
    at_server: PlayedServer, started: Callable[..., subprocess.Popen[str]]
) -> None:
    at_server.on("POST", "/inference/v1/m", Answer(b'{"a":"' + b"x" * 500_000 + b'"}'))
    process = started("call", "--model", "m", "a=1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 1
    assert "Traceback" not in stderr


def test_help_starts_without_the_heavy_libraries(
    started: Callable[..., subprocess.Popen[str]],
) -> None:
    root = str(Path(__file__).parents[3])
    code = (
        "import sys\nfrom inframind.cli.main import main\n"
        "status = main(['--help'])\n"
        "print(status, sorted({'httpx', 'rich', 'django', 'pydantic', "
        "'eth_account', 'eth_keys', 'coincurve'} & sys.modules.keys()))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": root},
    )  # fmt: skip
    assert shown.stdout.splitlines()[-1] == "0 []"
