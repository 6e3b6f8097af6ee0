"""Runs in a node's Python: loads one package and answers each line of JSON with another.

The first line names the package's folder and entry point; each later one is a document for a
Python class, or named tensors for a graph.
"""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

TEXT = "BYTES"
DTYPES = {"BOOL": "bool", "UINT8": "uint8", "FP32": "float32"}


def main(lines: Iterator[str], answer: Callable[[Any], None]) -> None:
    start = json.loads(next(lines))
    package, (file, _, name) = Path(start["package"]), start["entrypoint"].partition(":")
    if file.endswith(".onnx"):
        session = onnxruntime.InferenceSession(package / file)
        names = [output.name for output in session.get_outputs()]
        for line in lines:
            feeds = {
                tensor["name"]: np.array(tensor["data"], DTYPES[tensor["dtype"]]).reshape(
                    tensor["shape"]
                )
                for tensor in json.loads(line)
            }
            answer(list(map(described, names, session.run(names, feeds))))
    else:
        sys.path.insert(0, str(package))
        model = getattr(importlib.import_module(Path(file).stem), name)(package)
        for line in lines:
            answer(model.predict(json.loads(line)))


def described(name: str, array: Any) -> dict[str, Any]:
    dtype = next((key for key, kind in DTYPES.items() if array.dtype == kind), TEXT)
    return {"name": name, "dtype": dtype, "shape": array.shape, "data": array.ravel().tolist()}


if __name__ == "__main__":
    output = sys.stdout
    # Libraries that print must not mix with the answers.
    sys.stdout = sys.stderr
    main(iter(sys.stdin), lambda value: print(json.dumps(value), file=output, flush=True))
