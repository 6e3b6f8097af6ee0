"""Child processes of the stack: each has its log, its guard and an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inframind.devstack import guard
from inframind.devstack.accounts import Account

LAST_LINES = 15
POLL_SECONDS = 0.05
_GUARD = Path(guard.__file__)


class StackProblem(RuntimeError):
    """A part of the stack cannot go on. The message is for the person at the terminal."""


@dataclass(slots=True)
class Child:
    """A running program under its guard; the guard lives exactly as long as the program.

    ``is_dismissed`` once its end is our wish, and no longer news.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None
    grace_seconds: float
    log_start_bytes: int = 0
    is_dismissed: bool = False

    @property
    def pid(self) -> int:
        """The guard's process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """The program's exit status (128 + n after signal n)."""
        return self.process.wait()

    def ask_to_stop(self) -> None:
        """Begin a gentle stop; the guard kills what has not ended within the grace time."""
        self.is_dismissed = True
        if self.alive:
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Stop gently, then by force; returns when the program and its descendants are gone."""
        self.ask_to_stop()
        try:
            self.process.wait(self.grace_seconds + 5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """End the program at once, as a crash would."""
        self.is_dismissed = True
        if self.alive:
            self.process.send_signal(signal.SIGUSR1)
        self.process.wait()

    def last_lines(self) -> str:
        """What the program wrote last in this run."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as stream:
            stream.seek(max(self.log_start_bytes, self.log.stat().st_size - 64_000))
            text = stream.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-LAST_LINES:])

    def require_alive(self) -> None:
        """Raises StackProblem with the last log lines where the program has ended."""
        status = self.process.poll()
        if status is not None:
            raise StackProblem(self._words(f"{self.name} ended with status {status}"))

    def wait_until_ready(
        self, probe: Callable[[], bool], *, timeout_seconds: float, goes_on: Callable[[], None]
    ) -> None:
        """Wait until the probe succeeds while the program lives.

        ``goes_on`` raises when the whole stack is being stopped. Raises StackProblem with the
        last log lines when the program ended or was not ready in time.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            goes_on()
            self.require_alive()
            # Alive is asked again after the probe: an answer may be another program's.
            if probe():
                self.require_alive()
                return
            if time.monotonic() > deadline:
                raise StackProblem(
                    self._words(f"{self.name} was not ready within {timeout_seconds:.0f} s")
                )
            time.sleep(POLL_SECONDS)

    def _words(self, what: str) -> str:
        lines = self.last_lines()
        if self.log is None:
            return f"{what}."
        said = "Its last lines:\n" + lines if lines else "It wrote nothing."
        return f"{what}. {said}\nThe whole log: {self.log}"


@dataclass(slots=True)
class Children:
    """All programs of one stack. Closing it stops them; after that none can be started.

    ``lifeline`` is the read end of a pipe or FIFO: when its last writer is gone, all programs
    end. By default this process holds the writing end.
    """

    log_dir: Path
    lifeline: int | None = None
    _held: int | None = None
    _running: list[Child] = field(default_factory=list)
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        if self.lifeline is None:
            self.lifeline, self._held = os.pipe()

    @property
    def running(self) -> list[Child]:
        """The programs that live now."""
        with self._lock:
            return [child for child in self._running if child.alive]

    @property
    def started(self) -> list[Child]:
        """The programs that should live now, whether they do or not."""
        with self._lock:
            return [child for child in self._running if not child.is_dismissed]

    def goes_on(self) -> None:
        """Raises StackProblem once the stack is being stopped."""
        if self._closed:
            raise StackProblem("The stack is being stopped.")

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        account: Account | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        grace_seconds: float = 10.0,
        to_terminal: bool = False,
    ) -> Child:
        """Start a program. Its output goes to ``<log_dir>/<name>.log`` or to the terminal.

        Raises StackProblem when the stack is being stopped.
        """
        plan: dict[str, object] = {
            "command": list(command),
            "stop_signal": int(stop_signal),
            "grace_seconds": grace_seconds,
        }
        if account is not None:
            plan |= {"uid": account.uid, "gid": account.gid}
        log = None if to_terminal else self.log_dir / f"{name}.log"
        with self._lock:
            self.goes_on()
            output = None if log is None else log.open("ab")
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(_GUARD), json.dumps(plan)],
                    stdin=self.lifeline,
                    stdout=output,
                    stderr=None if output is None else subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
                start = 0 if output is None else output.tell()
            finally:
                if output is not None:
                    output.close()
            child = Child(name, process, log, grace_seconds, start)
            kept = (each for each in self._running if each.alive or not each.is_dismissed)
            self._running = [*kept, child]
        return child

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        account: Account | None = None,
        to_terminal: bool = False,
    ) -> None:
        """Run a program to its end. Raises StackProblem with its last lines where it failed."""
        child = self.start(
            name, command, env=env, cwd=cwd, account=account, to_terminal=to_terminal
        )
        status = child.wait()
        child.is_dismissed = True
        if status != 0:
            self.goes_on()
            child.require_alive()

    def close(self) -> None:
        """Stop everything, the last started first asked; returns when all are gone."""
        with self._lock:
            self._closed = True
            running = list(reversed(self._running))
        for child in running:
            child.ask_to_stop()
        for child in running:
            child.stop()
        with self._lock:
            self._running.clear()
            for descriptor in (self._held, self.lifeline):
                if descriptor is not None:
                    os.close(descriptor)
            self._held = self.lifeline = None
