"""The models that the benchmarks call: they give back what they get, so that the way there counts.

Graphs of one or two nodes, published as anybody publishes and verified by the stack's worker.
"""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from inframind.identity.models import Wallet
from marketplace.catalog.models import Model, Version
from marketplace.catalog.services import register

PUBLISHER = "0x" + "ec40" * 10
VERIFY_SECONDS = 120
TEXT: dict[str, Any] = {
    "type": "object",
    "required": ["text"],
    "properties": {"text": {"type": "string", "maxLength": 1000}},
    "additionalProperties": False,
}
EMBEDDING = 4


def text_model(name: str, *, fee: str) -> Version:
    """``{"text": …}`` in and out, batched by Triton."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["text"], ["echo"])],
        "echo",
        [value("text", TensorProto.STRING, ["rows", 1])],
        [value("echo", TensorProto.STRING, ["rows", 1])],
    )
    tensors = {
        "max_batch_size": 64,
        "inputs": [{"name": "text", "dtype": "BYTES", "shape": []}],
        "outputs": [{"name": "echo", "pointer": "/text", "dtype": "BYTES", "shape": []}],
    }
    return _published(
        name,
        graph,
        input_schema=TEXT,
        output_schema=TEXT,
        tensors=tensors,
        examples=[{"input": {"text": "hello"}, "output": {"text": "hello"}}],
        pricing={"per_request_fee": fee, "payout_address": PUBLISHER} if fee else {},
    )


def tensor_model(name: str) -> Version:
    """A list of FP32 in and out."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "echo",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"])],
    )
    number = {"type": "number", "minimum": -1e6, "maximum": 1e6}
    numbers = {"type": "array", "items": number}
    return _published(
        name,
        graph,
        input_schema={
            "type": "object",
            "required": ["x"],
            "properties": {"x": numbers},
            "additionalProperties": False,
        },
        output_schema={"type": "object", "required": ["y"], "properties": {"y": numbers}},
        tensors={
            "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1]}],
            "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1]}],
        },
        examples=[{"input": {"x": [1, 2]}, "output": {"y": [1, 2]}}],
    )


def embedding_model(name: str) -> Version:
    """Texts in, constants out, by the names and shapes of LiteLLM's Triton client."""
    value = helper.make_tensor_value_info
    width = onnx.numpy_helper.from_array(np.array([EMBEDDING], dtype=np.int64), "width")
    graph = helper.make_graph(
        [
            helper.make_node("Shape", ["input_text"], ["count"]),
            helper.make_node("Concat", ["count", "width"], ["shape"], axis=0),
            helper.make_node(
                "ConstantOfShape",
                ["shape"],
                ["embedding"],
                value=onnx.numpy_helper.from_array(np.array([0.5], dtype=np.float32)),
            ),
        ],
        "embedding",
        [value("input_text", TensorProto.STRING, ["n"])],
        [value("embedding", TensorProto.FLOAT, ["n", EMBEDDING])],
        [width],
    )
    texts = {"type": "array", "minItems": 1, "items": {"type": "string"}}
    numbers = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    return _published(
        name,
        graph,
        input_schema={
            "type": "object",
            "required": ["input_text"],
            "properties": {"input_text": texts},
        },
        output_schema={
            "type": "object",
            "required": ["embedding"],
            "properties": {"embedding": numbers},
        },
        tensors={
            "inputs": [{"name": "input_text", "dtype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": "embedding", "dtype": "FP32", "shape": [-1, EMBEDDING]}],
        },
        examples=[
            {"input": {"input_text": ["hello"]}, "output": {"embedding": [[0.5] * EMBEDDING]}}
        ],
    )


def _published(name: str, graph: Any, **manifest: Any) -> Version:
    """The active version, registered first where there is none. Ends the run where it fails."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    document = {
        "name": name,
        "version": "1.0.0",
        "description": "Gives back what it gets.",
        "license": "MIT",
        "task": "tabular",
        "runtime": "onnx",
        **manifest,
    }
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in (
            ("model.yaml", json.dumps(document).encode()),
            ("model.onnx", bytes(model.SerializeToString())),
        ):
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    if not Model.objects.filter(pk=name, current__isnull=False).exists():
        register(publisher=Wallet.objects.of(PUBLISHER), stream=archive)
    deadline = time.monotonic() + VERIFY_SECONDS
    while time.monotonic() < deadline:
        found = Model.objects.select_related("current__model").get(pk=name).current
        if found is not None:
            return found
        failed = Version.objects.filter(model=name).exclude(state_reason="").first()
        if failed is not None:
            raise SystemExit(f"{name} was not verified: {failed.state_reason}")
        time.sleep(0.2)
    raise SystemExit(f"{name} was not verified within {VERIFY_SECONDS} s; see the worker's log.")
