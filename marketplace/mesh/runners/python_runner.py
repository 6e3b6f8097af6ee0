"""Runs a package's Python entry point on a node: JSON document in, JSON document out.

The publisher's code lives in a child process (`python_worker.py`). Whatever happens to that, this
one answers within its deadline and starts another: a dead stub would hang the node's model control.
"""

import contextlib
import json
import os
import pathlib
import selectors
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

MAX_ANSWER_BYTES = 64 << 20


class Gone(Exception):
    """The child ended or ran out of time; the text is for a person."""


class TritonPythonModel:
    """One instance of the publisher's class, asked one document at a time."""

    def initialize(self, args: Any) -> None:
        """Unpacks and constructs within the load deadline; raises with a short text."""
        self.plan = json.loads(
            json.loads(args["model_config"])["parameters"]["plan"]["string_value"]
        )
        self.worker: Worker | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="package-")
        self.here = pathlib.Path(args["model_repository"]) / args["model_version"]
        with tarfile.open(self.here / "package.tar") as package:
            package.extractall(self.folder.name, filter="data")
        try:
            self._start()
        except Gone as error:
            self.folder.cleanup()
            raise pb.TritonModelException(str(error)) from None

    def execute(self, requests: Any) -> Any:
        """Answers every request; what `predict` raises becomes that request's error."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Ends the child and removes the unpacked package."""
        if self.worker is not None:
            self.worker.kill()
        self.folder.cleanup()

    def _start(self) -> "Worker":
        self.worker = Worker(self.here / "python_worker.py", self.folder.name, self.plan)
        return self.worker

    def _answer(self, request: Any) -> Any:
        text = pb.get_input_tensor_by_name(request, "document").as_numpy().reshape(-1)[0]
        try:
            worker = self.worker or self._start()
            answer = worker.ask(bytes(text), self.plan["run_seconds"])
        except Gone as error:
            if self.worker is not None:
                self.worker.kill()
            self.worker = None
            answer = b"-" + str(error).encode("utf-8")
        if answer[:1] == b"+":
            data = np.array([answer[1:]], dtype=object)
            return pb.InferenceResponse([pb.Tensor("document", data)])
        detail = answer[1:].decode("utf-8", "replace")
        return pb.InferenceResponse(
            output_tensors=[], error=pb.TritonError(detail, pb.TritonError.INTERNAL)
        )


class Worker:
    """The child process and the two pipes to it."""

    def __init__(self, program: Any, package: Any, plan: Any) -> None:
        """Starts it and waits until the class is constructed. Raises Gone."""
        child_in, self.to_child = os.pipe()
        self.from_child, child_out = os.pipe()
        # Its own session, so that what it starts goes with it; nothing of the node in its world.
        self.process = subprocess.Popen(  # noqa: S603
            [
                sys.executable, "-u", str(program), package, plan["entrypoint"],
                str(child_in), str(child_out),
            ],
            pass_fds=(child_in, child_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=package,
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": package,
                "LANG": "C.UTF-8",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
            start_new_session=True,
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        os.set_blocking(self.to_child, False)
        os.set_blocking(self.from_child, False)
        try:
            answer = self._receive(time.monotonic() + plan["load_seconds"])
        except Gone as error:
            self.kill()
            raise Gone(f"While loading: {error}") from None
        if answer[:1] != b"+":
            self.kill()
            raise Gone(answer[1:].decode("utf-8", "replace"))

    def ask(self, text: Any, seconds: Any) -> Any:
        """The child's answer to one document. Raises Gone."""
        deadline = time.monotonic() + seconds
        message = memoryview(struct.pack(">I", len(text)) + text)
        while message:
            self._wait(self.to_child, selectors.EVENT_WRITE, deadline)
            try:
                message = message[os.write(self.to_child, message) :]
            except BrokenPipeError:
                raise Gone(self.ended()) from None
        return self._receive(deadline)

    def kill(self) -> None:
        """Ends the child and everything it started, and closes the pipes."""
        self.end()
        self.close()

    def end(self) -> None:
        """Ends the child and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def close(self) -> None:
        """Closes the pipes."""
        for pipe in (self.to_child, self.from_child):
            os.close(pipe)

    def _receive(self, deadline: Any) -> Any:
        size = struct.unpack(">I", self._exactly(4, deadline))[0]
        if not 1 <= size <= MAX_ANSWER_BYTES:
            raise Gone(f"The model's answer has {size} bytes.")
        return self._exactly(size, deadline)

    def _exactly(self, size: Any, deadline: Any) -> Any:
        data = bytearray()
        while len(data) < size:
            self._wait(self.from_child, selectors.EVENT_READ, deadline)
            piece = os.read(self.from_child, min(size - len(data), 1 << 20))
            if not piece:
                raise Gone(self.ended())
            data += piece
        return bytes(data)

    def _wait(self, pipe: Any, event: Any, deadline: Any) -> Any:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise Gone("The model did not finish in time.")

    def ended(self) -> Any:
        """Why nothing comes from the child any more, for a person."""
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            return "The model closed its pipe."
        return f"The model's process ended with status {status}."
