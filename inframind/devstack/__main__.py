"""`python -m inframind.devstack demo|dev|install|contracts|with`: the stack from the terminal."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from inframind.devstack.chaintools import CONTRACTS, compile_contracts, ensure_chain_tools
from inframind.devstack.nodevenv import ROOT, ensure_node_venv
from inframind.devstack.ports import free_ports
from inframind.devstack.processes import Children, StackProblem
from inframind.devstack.stack import Stack

INTERRUPTED = 130
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked us to end; not an error."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second Ctrl-C must not tear the stopping itself apart.
    for number in STOPPING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0 done, 1 a part failed (said on stderr), 130 interrupted half-way."""
    parser = argparse.ArgumentParser(prog="python -m inframind.devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="seed real models, walk through the main job, stay up")
    commands.add_parser("dev", help="the stack with reload, without seeding")
    commands.add_parser("install", help="fetch what the Triton nodes and the chain need")
    commands.add_parser("contracts", help="compile the contracts into billing/contracts/artefacts")
    throwaway = commands.add_parser("with", help="run a command on a seeded, throwaway stack")
    throwaway.add_argument("program", nargs="+", metavar="PROGRAM")
    asked = parser.parse_args(arguments)
    for number in STOPPING_SIGNALS:
        signal.signal(number, _stop)
    try:
        if asked.command == "demo":
            return _demo()
        if asked.command == "dev":
            return _dev()
        if asked.command == "install":
            return _install()
        if asked.command == "contracts":
            return _contracts()
        return _with(asked.program)
    except StackProblem as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except Stopped:
        return INTERRUPTED


def _port() -> int:
    text = os.environ.get("PORT") or "8000"
    if not (text.isdecimal() and 0 < int(text) < 65_536):
        raise StackProblem(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _say(line: str) -> None:
    print(line, flush=True)


def _demo() -> int:
    # Only the demo pays for loading onnx.
    from inframind.devstack.walk import Walk, words_to_try

    once = os.environ.get("DEMO_ONCE") == "1"
    with Stack(port=_port(), say=_say) as stack:
        _start(stack)
        stack.application.manage("seed_demo", to_terminal=True)
        Walk(stack).run()
        _say(words_to_try(stack))
        return 0 if once else _stay(stack)


def _dev() -> int:
    with Stack(port=_port(), say=_say, is_debug=True) as stack:
        _start(stack, reload=True)
        _say(f"\nReady: {stack.url}/models and {stack.url}/epochs  (code reloads; logs in var/log)")
        return _stay(stack)


def _install() -> int:
    children = Children(ROOT / "var" / "log")
    try:
        ensure_node_venv(children, say=_say)
        ensure_chain_tools(children, say=_say)
    finally:
        children.close()
    return 0


def _contracts() -> int:
    children = Children(ROOT / "var" / "log")
    try:
        tools = ensure_chain_tools(children, say=_say)
        compile_contracts(children, tools, CONTRACTS / "artefacts")
    finally:
        children.close()
    return 0


def _with(program: Sequence[str]) -> int:
    """Run a program on a stack of its own, beside whatever runs; its environment is the stack's."""
    var = Path(tempfile.mkdtemp(prefix="inframind-"))
    # The servers' other users have to pass through it.
    var.chmod(0o711)
    try:
        with Stack(var=var, port=free_ports(1)[0], say=_say) as stack:
            _start(stack)
            token = var / "demo" / "token"
            stack.application.manage("seed_demo", f"--token-file={token}", to_terminal=True)
            child = stack.children.start(
                "program",
                program,
                env={
                    **stack.application.env,
                    "INFRA_URL": stack.url,
                    "INFRA_TOKEN": token.read_text().strip(),
                },
                cwd=stack.root,
                to_terminal=True,
            )
            return child.wait()
    finally:
        shutil.rmtree(var, ignore_errors=True)


def _start(stack: Stack, *, reload: bool = False) -> None:
    began = time.monotonic()
    _say("Starting PostgreSQL, Redis, the Triton nodes and the chain")
    stack.start_servers()
    for node in stack.nodes:
        if node.isolation:
            _say(node.isolation)
    _say("Preparing the database")
    stack.application.manage("migrate", "--no-input")
    _say("Starting web, worker and beat")
    stack.start_application(reload=reload)
    _say(f"The stack is up after {time.monotonic() - began:.1f} s")


def _stay(stack: Stack) -> int:
    """Stay until a signal comes (0) or a part ends by itself (StackProblem)."""
    try:
        while True:
            time.sleep(1)
            stack.watch()
    except Stopped:
        _say("Stopping")
        return 0


if __name__ == "__main__":
    sys.exit(main())
