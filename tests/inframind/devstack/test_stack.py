"""The stack of a clone as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from inframind.devstack.nodevenv import ROOT
from inframind.devstack.processes import StackProblem
from inframind.devstack.stack import Stack
from inframind.devstack.walk import write_package

GIVEN = {
    "DATABASE_URL": "postgresql:///elsewhere",
    "REDIS_URL": "redis://elsewhere/0",
    "TRITON_NODES": "[]",
    "ETH_RPC_URL": "http://elsewhere:8545",
}
CHAIN = (
    "CHAIN_ID",
    "IFM_ADDRESS",
    "SETTLEMENT_ADDRESS",
    "SETTLEMENT_BLOCK",
    "CHAIN_KEY",
    "CHAIN_CONFIRMATIONS",
    "FAUCET",
)


def test_what_is_given_is_not_embedded(tmp_path: Path) -> None:
    said: list[str] = []
    with Stack(var=tmp_path, say=said.append) as stack:
        stack.start_servers(GIVEN)

        assert stack.children.started == []
        assert {name: stack.env[name] for name in GIVEN} == GIVEN
    assert said == [f"{name} is set: using that one, not an embedded one." for name in GIVEN]


def test_the_state_file_is_private_and_goes_with_the_stack(tmp_path: Path) -> None:
    state = tmp_path / "stack.json"
    with Stack(var=tmp_path, say=lambda _: None) as stack:
        stack.start_servers({**GIVEN, "REDIS_URL": ""})

        assert state.stat().st_mode & 0o777 == 0o600
        written = json.loads(state.read_text())
        assert written["env"]["REDIS_URL"].startswith("redis://:")
        assert sorted(written["pids"]) == ["redis", "stack"]
    assert not state.exists()


def test_the_application_gets_the_embedded_chain(tmp_path: Path) -> None:
    with Stack(var=tmp_path, say=lambda _: None) as stack:
        stack.start_servers({**GIVEN, "ETH_RPC_URL": ""})

        contracts = json.loads((tmp_path / "chain" / "contracts.json").read_text())
        secrets = json.loads((tmp_path / "secrets.json").read_text())
        port = stack.env["ETH_RPC_URL"].removeprefix("http://127.0.0.1:")
        assert port.isdecimal()
        assert {name: stack.env[name] for name in CHAIN} == {
            "CHAIN_ID": "31337",
            "IFM_ADDRESS": contracts["ifm"],
            "SETTLEMENT_ADDRESS": contracts["settlement"],
            "SETTLEMENT_BLOCK": str(contracts["block"]),
            "CHAIN_KEY": secrets["chain"],
            "CHAIN_CONFIRMATIONS": "1",
            "FAUCET": "1",
        }
        assert [child.name for child in stack.children.started] == ["chain"]


def test_a_chain_that_is_given_brings_its_own_addresses(tmp_path: Path) -> None:
    with Stack(var=tmp_path, say=lambda _: None) as stack:
        stack.start_servers(GIVEN)

        assert stack.env["ETH_RPC_URL"] == GIVEN["ETH_RPC_URL"]
        assert [name for name in CHAIN if name in stack.env] == []


def test_secrets_stay_over_a_restart(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        with Stack(var=tmp_path, say=lambda _: None) as stack:
            stack.start_servers(GIVEN)
            keys.append(stack.env["SECRET_KEY"])

    assert keys[0] == keys[1]
    assert (tmp_path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_second_stack_of_the_clone_is_refused(tmp_path: Path) -> None:
    with (
        Stack(var=tmp_path, say=lambda _: None),
        pytest.raises(StackProblem, match=rf"already runs \(process {os.getpid()}\)"),
        Stack(var=tmp_path, say=lambda _: None),
    ):
        pass

    with Stack(var=tmp_path, say=lambda _: None):
        pass


def test_a_part_that_dies_later_is_told_with_its_log(tmp_path: Path) -> None:
    with Stack(var=tmp_path, say=lambda _: None) as stack:
        stack.start_servers({**GIVEN, "REDIS_URL": ""})
        stack.watch()
        [redis] = stack.children.started
        redis.process.send_signal(signal.SIGUSR1)
        redis.process.wait()

        with pytest.raises(StackProblem, match=r"redis ended with status 137\. Its last lines:"):
            stack.watch()


PARENT = """
import sys, time
from pathlib import Path
from inframind.devstack.stack import Stack
with Stack(var=Path(sys.argv[1])) as stack:
    stack.start_servers()
    time.sleep(600)
"""


@pytest.mark.xdist_group("devstack")
def test_nothing_of_a_killed_stack_lives_on(open_folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in GIVEN}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(open_folder)], env=environment, cwd=ROOT
    )
    try:
        state = open_folder / "stack.json"
        deadline = time.monotonic() + 120
        while not state.exists() and parent.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        pids = json.loads(state.read_text())["pids"]
        assert sorted(pids) == [
            *("chain", "node-a", "node-b", "postgres", "redis", "sandbox", "stack")
        ]
    finally:
        parent.kill()
        parent.wait()

    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _with_argument(str(open_folder)):
        time.sleep(0.05)
    assert _with_argument(str(open_folder)) == []


def _with_argument(text: str) -> list[str]:
    """Command lines of living processes that name the text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if text in line:
                found.append(line)
    return found


def run_module(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inframind.devstack", *arguments],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_port_that_is_none_is_refused_in_words() -> None:
    done = run_module("demo", PORT="http")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "\nPORT must be a number from 1 to 65535, not 'http'.\n"


def test_the_walks_package_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    first, second = (write_package(tmp_path / name) for name in ("one", "two"))

    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
