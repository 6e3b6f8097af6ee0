"""Serves a package's ONNX graph on a node that has Triton's Python backend.

The publisher ships a graph and no code: what runs here is this file and onnxruntime.
"""

import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb


class TritonPythonModel:
    """One instance of the graph. The `plan` parameter of the configuration says how to feed it."""

    def initialize(self, args: Any) -> None:
        """Unpacks the package and opens the graph; raises with a short text when it cannot."""
        plan = json.loads(json.loads(args["model_config"])["parameters"]["plan"]["string_value"])
        self.batched = plan["batched"]
        self.inputs = {each["name"]: each for each in plan["inputs"]}
        self.outputs = {each["name"]: each for each in plan["outputs"]}
        self.run_seconds = plan["run_seconds"]
        self.watch = Watch()
        self.folder = tempfile.TemporaryDirectory(prefix="package-")
        here = pathlib.Path(args["model_repository"]) / args["model_version"]
        with tarfile.open(here / "package.tar") as package:
            package.extractall(self.folder.name, filter="data")
        options = ort.SessionOptions()
        options.intra_op_num_threads = plan["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            device = {"device_id": int(args["model_instance_device_id"])}
            if "CUDAExecutionProvider" in ort.get_available_providers():
                providers.insert(0, ("CUDAExecutionProvider", device))
        graph = str(pathlib.Path(self.folder.name) / plan["entrypoint"])
        rehearse(here / "onnx_rehearsal.py", graph, plan["load_seconds"])
        self.session = ort.InferenceSession(graph, options, providers=providers)
        self.ranks = {each.name: len(each.shape) for each in self.session.get_inputs()}
        self._compare("input", set(self.inputs), set(self.ranks))
        produced = {each.name for each in self.session.get_outputs()}
        if set(self.outputs) - produced:
            self._compare("output", set(self.outputs), produced)

    def execute(self, requests: Any) -> Any:
        """Answers every request; compatible batched ones share one run."""
        answers = [None] * len(requests)
        groups: dict[Any, list[Any]] = {}
        for position, request in enumerate(requests):
            try:
                feeds = {name: self._feed(request, name) for name in self.inputs}
            except ValueError as error:
                answers[position] = refusal(error, pb.TritonError.INVALID_ARG)
                continue
            key = (
                tuple((name, feed.shape[1:]) for name, feed in feeds.items())
                if self.batched
                else position
            )
            groups.setdefault(key, []).append((position, feeds))
        for members in groups.values():
            try:
                self._answer(members, answers)
            except Exception as error:
                for position, _ in members:
                    answers[position] = refusal(error, pb.TritonError.INTERNAL)
        return answers

    def finalize(self) -> None:
        """Removes the unpacked package."""
        self.watch.stop()
        self.session = None
        self.folder.cleanup()

    def _answer(self, members: Any, answers: Any) -> Any:
        feeds = members[0][1]
        sizes = [0]
        if self.batched:
            sizes = [len(next(iter(each.values()))) for _, each in members]
        if len(members) > 1:
            feeds = {name: np.concatenate([each[name] for _, each in members]) for name in feeds}
        results = self._run(feeds)
        start = 0
        for (position, _), size in zip(members, sizes, strict=True):
            tensors = []
            for name, result in zip(self.outputs, results, strict=True):
                part = result[start : start + size] if self.batched else result
                tensors.append(self._tensor(name, part))
            answers[position] = pb.InferenceResponse(tensors)
            start += size

    def _run(self, feeds: Any) -> Any:
        control = ort.RunOptions()
        # A graph can loop for ever; without this its instance would never come back.
        self.watch.over(control, self.run_seconds)
        try:
            return self.session.run(list(self.outputs), feeds, control)
        finally:
            self.watch.end()

    def _feed(self, request: Any, name: Any) -> Any:
        array = pb.get_input_tensor_by_name(request, name).as_numpy()
        if self.inputs[name]["dtype"] == "BYTES":
            texts = [each.decode("utf-8") for each in array.reshape(-1)]
            decoded = np.empty(len(texts), dtype=object)
            decoded[:] = texts
            array = decoded.reshape(array.shape)
        # A JSON scalar travels as [1], whichever way the graph declares it.
        if self.inputs[name]["scalar"] and array.ndim == self.ranks[name] + 1:
            array = array.reshape(array.shape[:-1])
        return array

    def _tensor(self, name: Any, result: Any) -> Any:
        spec = self.outputs[name]
        array = np.asarray(result)
        if spec["scalar"] and array.ndim == int(self.batched):
            array = array.reshape((*array.shape, 1))
        if spec["dtype"] == "BYTES":
            texts = [
                each if isinstance(each, bytes) else str(each).encode("utf-8")
                for each in array.reshape(-1)
            ]
            encoded = np.empty(len(texts), dtype=object)
            encoded[:] = texts
            array = encoded.reshape(array.shape)
        return pb.Tensor(name, np.ascontiguousarray(array))

    def _compare(self, what: Any, declared: Any, present: Any) -> None:
        if declared != present:
            raise pb.TritonModelException(
                f"The manifest declares the {what}s {sorted(declared)}, "
                f"the graph has {sorted(present)}."
            )


class Watch:
    """Ends a run that lasts too long. One thread that looks now and then: a timer for every run
    would start a thread each, which takes longer than many graphs do."""

    LOOK_SECONDS = 0.25

    def __init__(self) -> None:
        self.run: Any = None
        self.stopped = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def over(self, control: Any, seconds: Any) -> None:
        """From now on, until ``end``."""
        self.run = (time.monotonic() + seconds, control)

    def end(self) -> None:
        self.run = None

    def stop(self) -> None:
        self.stopped.set()

    def _look(self) -> None:
        while not self.stopped.wait(self.LOOK_SECONDS):
            run = self.run
            if run is not None and time.monotonic() > run[0]:
                run[1].terminate = True


def rehearse(program: Any, graph: Any, seconds: Any) -> None:
    """Raises when the graph does not open: a stub that died of it would hang model control."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, str(program), graph], capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise pb.TritonModelException(f"The graph did not open within {seconds} s.") from None
    if done.returncode != 0:
        folder = f"{pathlib.Path(graph).parent}/"
        reason = done.stdout.decode("utf-8", "replace").replace(folder, "")
        raise pb.TritonModelException(
            reason or f"Opening the graph ended its process with status {done.returncode}."
        )


def refusal(error: Any, code: Any) -> Any:
    """An error answer of one request."""
    return pb.InferenceResponse(output_tensors=[], error=pb.TritonError(short(error), code))


def short(error: Any) -> Any:
    """One line for a person, without a stack of C++ frames."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:400]
