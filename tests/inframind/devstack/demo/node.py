"""A package running in a node's Python, asked with documents as the gateway would ask it."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from marketplace.catalog.manifest import Manifest, parse_manifest
from marketplace.mesh.tensors import Tensor, decode, encode, packed

NODE_SIDE = Path(__file__).with_name("node_side.py")


class RunningPackage:
    """A package's model in its own process, which ends with the context."""

    def __init__(self, python: Path, package: Path) -> None:
        self.manifest: Manifest = parse_manifest((package / "model.yaml").read_bytes())
        self._process = subprocess.Popen(
            [python, "-B", NODE_SIDE],  # the built package stays as it was built
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._write({"package": str(package), "entrypoint": self.manifest.entrypoint})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)

    def call(self, document: Any) -> Any:
        """Return the output document for an input document."""
        tensors = self.manifest.tensors
        if tensors is None:
            return self._ask(document)
        size = tensors.max_batch_size
        given = [
            {"name": t.name, "dtype": t.dtype, "shape": t.shape, "data": t.array.ravel().tolist()}
            for t in encode(document, tensors.inputs, max_batch_size=size)
        ]
        return decode(
            [_tensor(each) for each in self._ask(given)], tensors.outputs, max_batch_size=size
        )

    def _ask(self, value: Any) -> Any:
        self._write(value)
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _write(self, value: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()


def _tensor(given: dict[str, Any]) -> Tensor:
    shape = tuple(given["shape"])
    if given["dtype"] == "BYTES":
        texts = [text.encode() for text in given["data"]]
        return Tensor(given["name"], given["dtype"], shape, texts)
    return Tensor(given["name"], given["dtype"], shape, packed(given["dtype"], given["data"]))
