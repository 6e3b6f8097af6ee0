"""Runs a package's streaming entry point on a node: a JSON document in, one document a piece out.

As with `python_runner.py`, the publisher's code lives in a child process. Here several calls share
it, piece by piece in turn; one that hangs or dies takes those with it, and the next starts another.
"""

import contextlib
import json
import os
import pathlib
import queue
import select
import struct
import tarfile
import tempfile
import threading
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb
from python_runner import MAX_ANSWER_BYTES, Gone, Worker

STREAMS_AT_ONCE = 64
LOOK_SECONDS = 0.1
PIECE_MIN_BYTES = 1 << 10


class TritonPythonModel:
    """One instance of the publisher's class, asked by several calls at once."""

    def initialize(self, args: Any) -> None:
        """Unpacks and constructs within the load deadline; raises with a short text."""
        self.plan = json.loads(
            json.loads(args["model_config"])["parameters"]["plan"]["string_value"]
        )
        self.folder = tempfile.TemporaryDirectory(prefix="package-")
        self.here = pathlib.Path(args["model_repository"]) / args["model_version"]
        self.places = threading.BoundedSemaphore(STREAMS_AT_ONCE)
        with tarfile.open(self.here / "package.tar") as package:
            package.extractall(self.folder.name, filter="data")
        try:
            self.line = self._start()
        except Gone as error:
            self.folder.cleanup()
            raise pb.TritonModelException(str(error)) from None

    def execute(self, requests: Any) -> Any:
        """Begins every request; their pieces follow as they come."""
        for request in requests:
            text = pb.get_input_tensor_by_name(request, "document").as_numpy().reshape(-1)[0]
            # Triton keeps what waits for a place.
            self.places.acquire()
            call = Call(request.get_response_sender(), self.places, self.plan["stream_seconds"])
            try:
                if not self.line.begin(call, bytes(text)):
                    self.line = self._start()
                    if not self.line.begin(call, bytes(text)):
                        raise Gone("The model's process ended.")
            except Gone as error:
                call.end(str(error))

    def finalize(self) -> None:
        """Ends the child and removes the unpacked package."""
        self.line.close()
        self.folder.cleanup()

    def _start(self) -> "Line":
        program = self.here / "python_stream_worker.py"
        return Line(Worker(program, self.folder.name, self.plan), self.plan["run_seconds"])


class Call:
    """One request and what it is answered."""

    def __init__(self, sender: Any, places: Any, seconds: Any) -> None:
        """It may take so long in all."""
        self.sender, self.places = sender, places
        self.deadline = time.monotonic() + seconds
        self.sent_bytes = 0

    def piece(self, text: Any) -> None:
        """Sends one document."""
        self.sent_bytes += max(len(text), PIECE_MIN_BYTES)
        data = np.array([text], dtype=object)
        self.sender.send(pb.InferenceResponse([pb.Tensor("document", data)]))

    def end(self, detail: Any = "") -> None:
        """Ends the answer, with an error where there is a `detail`."""
        try:
            if detail:
                error = pb.TritonError(detail, pb.TritonError.INTERNAL)
                answer = pb.InferenceResponse(output_tensors=[], error=error)
                self.sender.send(answer, flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            else:
                self.sender.send(flags=pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        finally:
            self.places.release()

    def overdue(self) -> Any:
        """Why it must end now: its reader has gone, or its time has; None where it need not."""
        if self.sender.is_cancelled():
            return ""
        if time.monotonic() > self.deadline:
            return "The model did not finish in time."
        return None


class Line:
    """One child process and the calls that it is answering."""

    def __init__(self, worker: Any, silent_seconds: Any) -> None:
        """A child that says nothing for so long while calls wait is ended."""
        self.worker, self.silent_seconds = worker, silent_seconds
        self.calls: dict[int, Call] = {}
        self.number = 0
        self.heard = 0.0
        self.gone = self.closing = False
        self.lock = threading.Lock()
        self.outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        os.set_blocking(worker.to_child, True)
        self.writer = threading.Thread(target=self._write, daemon=True)
        self.reader = threading.Thread(target=self._run, daemon=True)
        self.writer.start()
        self.reader.start()

    def begin(self, call: Any, text: Any) -> Any:
        """Hands a call to the child; False where that has ended."""
        with self.lock:
            if self.gone:
                return False
            if not self.calls:
                self.heard = time.monotonic()
            self.number = (self.number + 1) & 0xFFFFFFFF
            self.calls[self.number] = call
            self._say(self.number, b"?" + text)
        return True

    def close(self) -> None:
        """Ends the child and its calls."""
        self.closing = True
        self.reader.join()

    def _say(self, number: Any, message: Any) -> None:
        self.outbox.put(struct.pack(">II", 4 + len(message), number) + message)

    def _write(self) -> None:
        while (message := self.outbox.get()) is not None:
            view = memoryview(message)
            # What a dead child does not take is for nobody; the reader sees its end.
            with contextlib.suppress(OSError):
                while view:
                    view = view[os.write(self.worker.to_child, view) :]

    def _run(self) -> None:
        detail = "The model's process was lost."
        try:
            detail = self._read()
        finally:
            with self.lock:
                self.gone = True
                calls, self.calls = list(self.calls.values()), {}
            for call in calls:
                with contextlib.suppress(Exception):
                    call.end(detail)
            self.outbox.put(None)
            # Killed before the writer is waited for: a full pipe lets go of it only then.
            self.worker.end()
            self.writer.join()
            self.worker.close()

    def _read(self) -> Any:
        """Answers calls until the child is of no more use; returns why."""
        buffer = bytearray()
        looked = 0.0
        while not self.closing:
            ready = select.select([self.worker.from_child], [], [], LOOK_SECONDS)[0]
            now = time.monotonic()
            if ready:
                data = os.read(self.worker.from_child, 1 << 20)
                if not data:
                    return self.worker.ended()
                self.heard = now
                buffer += data
                if not self._take(buffer):
                    return "The model's process gave an answer that is none."
            elif self.calls and now - self.heard > self.silent_seconds:
                return "The model did not finish in time."
            if now - looked >= LOOK_SECONDS:
                looked = now
                self._look()
        return "The model was unloaded."

    def _take(self, buffer: Any) -> Any:
        """Deals with every whole message in the buffer; False where one cannot be."""
        while len(buffer) >= 4:
            size = struct.unpack(">I", buffer[:4])[0]
            if not 5 <= size <= MAX_ANSWER_BYTES:
                return False
            if len(buffer) < 4 + size:
                break
            message = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]
            number, sign, text = struct.unpack(">I", message[:4])[0], message[4:5], message[5:]
            call = self.calls.get(number)
            if call is None:
                continue  # it was over before the child knew
            if sign != b"+":
                self._end(number, text.decode("utf-8", "replace") if sign == b"-" else "")
                continue
            call.piece(text)
            if call.sent_bytes > MAX_ANSWER_BYTES:
                self._say(number, b"x")
                self._end(number, f"The model's pieces are more than {MAX_ANSWER_BYTES >> 20} MiB.")
        return True

    def _look(self) -> None:
        """Ends the calls that must end, and tells the child."""
        with self.lock:
            calls = list(self.calls.items())
        for number, call in calls:
            reason = call.overdue()
            if reason is not None:
                self._say(number, b"x")
                self._end(number, reason)

    def _end(self, number: Any, detail: Any) -> None:
        with self.lock:
            call = self.calls.pop(number)
        call.end(detail)
