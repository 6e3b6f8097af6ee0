"""Runs one program so that it never outlives the stack. A script of the standard library only.

usage: python -I -S guard.py PLAN, where PLAN is JSON: ``command`` (list), ``stop_signal`` (number),
``grace_seconds``, and optionally ``uid`` and ``gid`` to run as. Standard input is the life line:
a pipe whose other end the stack holds. When it closes, however the stack died, the program and all
its descendants are ended. SIGTERM stops it gently, SIGUSR1 kills it at once. The exit status is the
program's own (128 + n after signal n).
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
POLL_SECONDS = 0.05


def main() -> NoReturn:
    plan = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    asked: set[int] = set()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, lambda received, _frame: asked.add(received))
    child = os.fork()
    if child == 0:
        _become(plan, libc)
    deadline: float | None = None
    while True:
        status = _reap(child)
        if status is not None:
            break
        waiting = [wake_read] if deadline is not None else [wake_read, 0]
        readable, _, _ = select.select(waiting, [], [], 0.5 if deadline is None else POLL_SECONDS)
        if wake_read in readable:
            os.read(wake_read, 4096)
        lost = 0 in readable and not os.read(0, 4096)
        if signal.SIGUSR1 in asked:
            os.kill(child, signal.SIGKILL)
        elif deadline is None and (lost or asked - {signal.SIGCHLD}):
            deadline = time.monotonic() + float(plan["grace_seconds"])
            os.kill(child, int(plan["stop_signal"]))
        elif deadline is not None and time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
    _end_descendants()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _become(plan: dict[str, Any], libc: ctypes.CDLL) -> NoReturn:
    """Turns this fresh child into the program; says why in one line where that fails."""
    guard = os.getppid()
    try:
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
            signal.SIGUSR1,
            signal.SIGCHLD,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        if "uid" in plan:
            os.setgroups([])
            os.setgid(plan["gid"])
            os.setuid(plan["uid"])
        # After the change of user, which would clear it.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        os.execvp(plan["command"][0], plan["command"])  # noqa: S606
    except OSError as error:
        print(f"cannot run {plan['command'][0]}: {error}", file=sys.stderr, flush=True)
        os._exit(127)


def _reap(child: int) -> int | None:
    """The child's wait status once it ended; collects adopted orphans on the way."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 0
        if pid == 0:
            return None
        if pid == child:
            return status


def _end_descendants() -> None:
    # Killing a process hands its children to us, so this ends once none is left.
    me = os.getpid()
    while True:
        for pid in _children_of(me):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children_of(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry))
    return found


if __name__ == "__main__":
    main()
