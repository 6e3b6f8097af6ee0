"""Joins ONNX graphs: pre- and post-processing written as text around a trained network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

GRAPHS = Path(__file__).parent / "graphs"
INNER = "inner"


def assemble(
    graph: str, constants: Mapping[str, NDArray[Any]], inner: onnx.ModelProto | None = None
) -> bytes:
    """Return the bytes of the ONNX model that `graphs/<graph>.onnxtxt` describes.

    `constants` become initializers of the same name (arrays of numbers or of strings); the text's
    one node `inner.network` stands for the whole of `inner`, whose inputs and outputs it renames.
    Raises onnx.checker.ValidationError or onnx.shape_inference.InferenceError when the parts do
    not fit together.
    """
    model = onnx.parser.parse_model((GRAPHS / f"{graph}.onnxtxt").read_text("utf-8"))
    for name, value in constants.items():
        strings = value.dtype.kind in "OU"
        array = value.astype(object) if strings else np.ascontiguousarray(value)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    if inner is not None:
        _inline(model, inner)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _inline(model: onnx.ModelProto, inner: onnx.ModelProto) -> None:
    """Put the nodes and weights of `inner` in the place of the node of the domain `inner`."""
    nodes = list(model.graph.node)
    place = next(i for i, node in enumerate(nodes) if node.domain == INNER)
    network = onnx.compose.add_prefix(inner, f"{INNER}/").graph
    outer_names = {
        value.name: name
        for values, names in (
            (network.input, nodes[place].input),
            (network.output, nodes[place].output),
        )
        for value, name in zip(values, names, strict=True)
    }
    for node in network.node:
        for names in (node.input, node.output):
            names[:] = [outer_names.get(name, name) for name in names]
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], *network.node, *nodes[place + 1 :]])
    model.graph.initializer.extend(network.initializer)
    kept = [entry for entry in model.opset_import if entry.domain != INNER]
    known = {entry.domain for entry in kept}
    used = {node.domain for node in network.node}
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.opset_import.extend(entry for entry in inner.opset_import if entry.domain in used - known)
