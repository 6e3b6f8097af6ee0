"""Triton nodes from the nvidia-pytriton wheel: trusted ones, and a sandbox for publisher code."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inframind.devstack import sandbox
from inframind.devstack.accounts import SANDBOX, is_root
from inframind.devstack.nodevenv import NodeVenv
from inframind.devstack.ports import LOOPBACK, answers_ok, free_ports
from inframind.devstack.processes import Child, Children, StackProblem

CONTROL_HEADER = "triton-control"
# Beside loading and unloading also what reads memory or writes files of the node.
GUARDED = "model-repository,shared-memory,trace,logging"
HTTP_THREADS = 8
START_ATTEMPTS = 3
READY_SECONDS = 60.0


@dataclass(slots=True)
class Node:
    """One Triton process. ``isolation`` tells how far a sandbox is apart, in words."""

    name: str
    is_sandbox: bool
    secret: str
    folder: Path
    venv: NodeVenv
    children: Children
    ports: dict[str, int] = field(default_factory=dict)
    isolation: str = ""
    child: Child | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['http']}"

    def document(self) -> dict[str, Any]:
        """This node as an entry of ``TRITON_NODES``."""
        return {
            "name": self.name,
            "endpoint": self.endpoint,
            "grpc_endpoint": f"{LOOPBACK}:{self.ports['grpc']}",
            "metrics_endpoint": f"http://{LOOPBACK}:{self.ports['metrics']}/metrics",
            "sandbox": self.is_sandbox,
            "control_header": CONTROL_HEADER,
            "control_secret": self.secret,
            "isolation": self.isolation,
        }

    def begin(self) -> None:
        """Start the process without waiting for it; on the same ports as before, if any."""
        if self.is_sandbox:
            self._begin_apart()
            return
        if not self.ports:
            self.ports = dict(zip(sandbox.PARTS, free_ports(3), strict=True))
        self.child = self.children.start(
            self.name,
            [part.format(**self.ports) for part in self._command()],
            env=self._environment(),
            cwd=self.folder,
            grace_seconds=8,
        )

    def await_ready(self) -> None:
        """Wait until the node is ready. Raises StackProblem when it does not get there.

        A port that another program took meanwhile leads to a new attempt on others.
        """
        for attempt in range(1, START_ATTEMPTS + 1):
            child = self._running()
            try:
                if self.is_sandbox:
                    self._await_report(child)
                child.wait_until_ready(
                    self.is_ready, timeout_seconds=READY_SECONDS, goes_on=self.children.goes_on
                )
                return
            except StackProblem:
                lost_port = "already in use" in child.last_lines()
                if child.alive or not lost_port or attempt == START_ATTEMPTS:
                    raise
                child.is_dismissed = True
                self.ports = {}
                self.begin()

    def start(self) -> None:
        """Start and wait until ready."""
        self.begin()
        self.await_ready()

    def stop(self) -> None:
        """Stop gently; its models are gone afterwards."""
        child = self._running()
        left = self._leftovers(child.pid)
        child.stop()
        _remove(left)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        child = self._running()
        left = self._leftovers(child.pid)
        child.kill()
        _remove(left)

    def restart(self) -> None:
        """Bring it back after ``stop`` or ``kill``, empty; a trusted node keeps its ports."""
        if self._running().alive:
            self.stop()
        self.start()

    def is_ready(self) -> bool:
        """Whether the server answers that it is ready."""
        return answers_ok(self.ports["http"], "/v2/health/ready")

    def _running(self) -> Child:
        if self.child is None:
            raise StackProblem(f"{self.name} was not started.")
        return self.child

    def _begin_apart(self) -> None:
        report = self.folder / "sandbox.json"
        report.unlink(missing_ok=True)
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        plan: dict[str, Any] = {
            "command": self._command(),
            "env": self._environment(),
            "visible": [
                str(self.venv.path),
                str(self.venv.base_python),
                str(self.folder / "backends"),
                str(self.folder / "models"),
            ],
            "needed": [str(self._server), str(self.venv.python), str(self.folder / "models")],
            "report": str(report),
            "root": str(root),
        }
        if is_root():
            plan |= {"uid": SANDBOX.uid, "gid": SANDBOX.gid}
        self.child = self.children.start(
            self.name,
            [sys.executable, "-I", "-S", sandbox.__file__, json.dumps(plan)],
            env={"PATH": os.defpath},
            cwd=self.folder,
            grace_seconds=8,
        )

    def _await_report(self, child: Child) -> None:
        report = self.folder / "sandbox.json"
        child.wait_until_ready(
            report.exists, timeout_seconds=READY_SECONDS, goes_on=self.children.goes_on
        )
        said = json.loads(report.read_text())
        self.ports = said["ports"]
        own_user = said["user"] if is_root() else False
        parts = [
            "under a user of its own" if own_user else "under our own user",
            "without network" if said["network"] else "with our network",
            "without our files" if said["files"] else "with our files",
        ]
        reason = said["reason"] or ("" if own_user else "another user needs root")
        self.isolation = (
            "Publisher code runs " + ", ".join(parts) + (f" ({reason})" if reason else "")
        )

    @property
    def _server(self) -> Path:
        return self.venv.packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    def _command(self) -> list[str]:
        """The command line, with ``{http}``, ``{grpc}`` and ``{metrics}`` for the ports."""
        guarded = f"{GUARDED}:{CONTROL_HEADER}={self.secret}"
        return [
            str(self._server),
            f"--id={self.name}",
            f"--model-repository={self.folder / 'models'}",
            f"--backend-directory={self.folder / 'backends'}",
            "--model-control-mode=explicit",
            # With auto-completion a model that ends its process at import hangs all model control.
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            f"--http-address={LOOPBACK}",
            "--http-port={http}",
            f"--http-thread-count={HTTP_THREADS}",
            f"--http-restricted-api={guarded}",
            f"--grpc-address={LOOPBACK}",
            "--grpc-port={grpc}",
            f"--grpc-restricted-protocol={guarded}",
            f"--metrics-address={LOOPBACK}",
            "--metrics-port={metrics}",
            "--allow-gpu-metrics=false",
            "--exit-timeout-secs=3",
        ]

    def _environment(self) -> dict[str, str]:
        return {
            # The Python backend runs in the environment of the first python3 on PATH.
            "PATH": f"{self.venv.path / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(self.venv.packages / "nvidia_pytriton.libs"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": "/tmp",  # noqa: S108
            "LANG": "C.UTF-8",
        }

    def _leftovers(self, guard_pid: int) -> list[Path]:
        """Temporary folders and shared memory that Triton leaves behind when it ends."""
        if self.is_sandbox:
            return []
        left = []
        for pid in _descendants(guard_pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0].endswith(b"triton_python_backend_stub"):
                left.append(Path(os.fsdecode(command[1])).parent.parent)
                left.append(Path("/dev/shm") / os.fsdecode(command[2]))  # noqa: S108
        return left


def make_node(
    *,
    name: str,
    is_sandbox: bool,
    secret: str,
    folder: Path,
    venv: NodeVenv,
    children: Children,
) -> Node:
    """A node in its folder, with an empty model repository and the Python backend laid out."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    backend = folder / "backends" / "python"
    server = venv.packages / "pytriton" / "tritonserver"
    shutil.rmtree(backend, ignore_errors=True)
    shutil.copytree(server / "backends" / "python", backend)
    stub = server / "python_backend_stubs" / venv.version / "triton_python_backend_stub"
    shutil.copy2(stub, backend)
    return Node(name, is_sandbox, secret, folder, venv, children)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    waiting = [pid]
    while waiting:
        try:
            said = Path(f"/proc/{waiting[0]}/task/{waiting[0]}/children").read_text()
        except OSError:
            said = ""
        children = [int(each) for each in said.split()]
        waiting = [*waiting[1:], *children]
        found += children
    return found


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
