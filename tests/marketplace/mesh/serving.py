"""Small real models, and how a test lists and places them."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog.models import CodeReview, Model, Verification, Version
from marketplace.catalog.services import register

OWNER = "0x1111111111111111111111111111111111111111"

DOUBLER_SCHEMAS: dict[str, Any] = {
    "input_schema": {
        "type": "object",
        "required": ["values"],
        "properties": {
            "values": {"type": "array", "items": {"type": "number"}, "maxItems": 1000},
            "times": {"type": "number"},
            "label": {"type": "string"},
        },
        "additionalProperties": False,
    },
    "output_schema": {
        "type": "object",
        "required": ["values", "label"],
        "properties": {
            "values": {"type": "array", "items": {"type": "number"}},
            "label": {"type": "string"},
        },
    },
}

DOUBLER_TENSORS: dict[str, Any] = {
    "inputs": [
        {"name": "values", "dtype": "FP32", "shape": [-1]},
        {"name": "times", "dtype": "FP32", "shape": [], "default": 2},
        {"name": "label", "dtype": "BYTES", "shape": [], "default": "none"},
    ],
    "outputs": [
        {"name": "scaled", "pointer": "/values", "dtype": "FP32", "shape": [-1]},
        {"name": "label_out", "pointer": "/label", "dtype": "BYTES", "shape": []},
    ],
}

ECHO = """
class Model:
    def __init__(self, package):
        self.word = (package / "word.txt").read_text()

    def predict(self, document):
        return {"said": self.word + document["text"]}
"""
ECHO_SCHEMAS: dict[str, Any] = {
    "input_schema": {
        "type": "object",
        "required": ["text"],
        "properties": {"text": {"type": "string"}},
    },
    "output_schema": {
        "type": "object",
        "required": ["said"],
        "properties": {"said": {"type": "string"}},
    },
}


def doubler_graph(*, batched: bool = False) -> bytes:
    """values × times, and a label that passes through."""
    rows: list[Any] = ["rows"] if batched else []
    value = helper.make_tensor_value_info
    scalar = [*rows, 1]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["values", "times"], ["scaled"]),
            helper.make_node("Identity", ["label"], ["label_out"]),
        ],
        "doubler",
        [
            value("values", TensorProto.FLOAT, [*rows, "n"]),
            value("times", TensorProto.FLOAT, scalar),
            value("label", TensorProto.STRING, scalar),
        ],
        [
            value("scaled", TensorProto.FLOAT, [*rows, "n"]),
            value("label_out", TensorProto.STRING, scalar),
        ],
    )
    return serialized(graph)


def unary_graph(operator: str) -> bytes:
    """`y = operator(x)` on a list of FP32."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"])],
        "unary",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, None)],
    )
    return serialized(graph)


def mixed_graph() -> bytes:
    """A graph that no library can open: it adds a list of FP32 to a constant text."""
    value = helper.make_tensor_value_info
    word = onnx.numpy_helper.from_array(np.array(["one"], dtype=object), "word")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "word"], ["y"])],
        "mixed",
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, None)],
        [word],
    )
    return serialized(graph)


def serialized(graph: Any) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


UNARY: dict[str, Any] = {
    "input_schema": {
        "type": "object",
        "required": ["x"],
        "properties": {"x": {"type": "array", "items": {"type": "number"}}},
    },
    "output_schema": {
        "type": "object",
        "required": ["y"],
        "properties": {"y": {"type": "array", "items": {"type": "number"}}},
    },
    "tensors": {
        "inputs": [{"name": "x", "dtype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1]}],
    },
}


def list_version(
    name: str, files: dict[str, bytes], *, activate: bool = True, **manifest: Any
) -> Version:
    """Registers a package for ``OWNER``; ``activate`` stands in for a verification that passed."""
    document = {
        "name": name,
        "version": "1.0.0",
        "description": "A small model of the tests.",
        "license": "MIT",
        "task": "tabular",
        **manifest,
    }
    content = {"model.yaml": yaml.safe_dump(document).encode(), **files}
    owner = Wallet.objects.of(OWNER)
    version = register(publisher=owner, stream=io.BytesIO(tar_of(content))).version
    if activate:
        Verification.objects.filter(version=version).update(state=Verification.State.PASSED)
        Version.objects.filter(pk=version.pk).update(state=Version.State.ACTIVE)
        Model.objects.filter(pk=name).update(current=version)
    version.refresh_from_db()
    return version


def list_doubler(name: str = "doubler-v1", **manifest: Any) -> Version:
    batched = manifest.get("tensors", {}).get("max_batch_size", 0) > 0
    return list_version(
        name,
        {"model.onnx": doubler_graph(batched=batched)},
        **{"runtime": "onnx", "tensors": DOUBLER_TENSORS, **DOUBLER_SCHEMAS, **manifest},
    )


def list_unary(name: str, operator: str, *, graph: bytes | None = None, **manifest: Any) -> Version:
    return list_version(
        name,
        {"model.onnx": graph or unary_graph(operator)},
        **{"runtime": "onnx", **UNARY, **manifest},
    )


def list_python(name: str, code: str, *, reviewed: bool = True, **manifest: Any) -> Version:
    version = list_version(
        name,
        {"model.py": code.encode(), "word.txt": b"you said: "},
        **{"runtime": "python", **ECHO_SCHEMAS, **manifest},
    )
    if reviewed:
        CodeReview.objects.create(
            cid=version.content_cid,
            verdict=CodeReview.Verdict.APPROVED,
            reviewer=Wallet.objects.of("0x2222222222222222222222222222222222222222"),
        )
    return version


def tar_of(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def fresh_name(stem: str) -> str:
    """A name no other run of the tests has used on the same nodes."""
    return f"{stem}-{new_uuid7().hex[-8:]}"
