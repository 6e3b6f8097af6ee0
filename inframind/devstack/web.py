"""Our own processes: the web server, the Celery worker and beat, and management commands."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inframind.devstack.ports import LOOPBACK, answers_ok, is_taken
from inframind.devstack.processes import Child, Children, StackProblem

WORKER_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Application:
    """Starts what runs from this source tree. ``env`` is the whole environment of each process."""

    children: Children
    root: Path
    env: Mapping[str, str]

    def manage(self, *arguments: str, to_terminal: bool = False) -> None:
        """Run a management command to its end. Raises StackProblem where it failed."""
        self.children.run(
            f"manage-{arguments[0]}",
            [sys.executable, "manage.py", *arguments],
            env=self.env,
            cwd=self.root,
            to_terminal=to_terminal,
        )

    def web(self, port: int, *, reload: bool = False) -> Child:
        """Start uvicorn on the port. Raises StackProblem where the port is taken."""
        if is_taken(port):
            raise StackProblem(
                f"Port {port} is taken by another program. "
                f"Choose another one, like: PORT={port + 1} make demo"
            )
        return self._module(
            "web",
            "uvicorn",
            "inframind.asgi:application",
            f"--host={LOOPBACK}",
            f"--port={port}",
            "--no-server-header",
            "--timeout-graceful-shutdown=5",
            *(["--reload"] if reload else []),
        )

    def worker(self) -> Child:
        return self._module(
            "worker",
            "celery",
            "--app=inframind",
            "worker",
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            f"--concurrency={WORKER_PROCESSES}",
            "--hostname=worker@stack",
        )

    def beat(self, schedule: Path) -> Child:
        """Start the clock; ``schedule`` is the file in which it keeps when each task last ran."""
        return self._module(
            "beat",
            "celery",
            "--app=inframind",
            "beat",
            "--loglevel=INFO",
            "--pidfile=",
            f"--schedule={schedule}",
        )

    def await_web(self, web: Child, port: int) -> None:
        """Wait until ``/livez`` answers. Raises StackProblem with log lines when it does not."""
        web.wait_until_ready(
            lambda: answers_ok(port, "/livez"), timeout_seconds=60, goes_on=self.children.goes_on
        )

    def _module(self, name: str, *arguments: str) -> Child:
        return self.children.start(
            name, [sys.executable, "-m", *arguments], env=self.env, cwd=self.root
        )
