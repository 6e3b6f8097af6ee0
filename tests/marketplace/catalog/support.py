"""Packages to publish, and a node that a test plays."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token
from inframind.lib.problem import Problem
from inframind.storage.store import get_store
from marketplace.catalog import services, trial
from marketplace.catalog.models import AccessPolicy, Model, Terms, Version

OWNER = "0x1111111111111111111111111111111111111111"
STRANGER = "0x2222222222222222222222222222222222222222"
STAFF = "0x3333333333333333333333333333333333333333"

MANIFEST = """\
name: echo-text
version: 1.0
description: Gives a text back.
license: MIT
tags: [text]
task: text-generation
runtime: onnx
tensors:
  inputs: [{name: text, dtype: BYTES, shape: []}]
  outputs: [{name: echo, dtype: BYTES, shape: []}]
input_schema:
  type: object
  required: [text]
  additionalProperties: false
  properties: {text: {type: string, maxLength: 200}}
output_schema:
  type: object
  required: [echo]
  additionalProperties: false
  properties: {echo: {type: string}}
examples:
  - input: {text: hello}
    output: {echo: hello}
"""

PRIVATE = MANIFEST + "access: {public: false}\n"
PYTHON_MANIFEST = MANIFEST.replace("runtime: onnx", "runtime: python").replace(
    MANIFEST[MANIFEST.index("tensors:") : MANIFEST.index("input_schema:")], ""
)


def protobuf(number: int, content: bytes) -> bytes:
    """A length-delimited field of up to 2 MiB, as protocol buffers write it."""
    size, length = len(content), b""
    while True:
        size, low = size >> 7, size & 0x7F
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([number << 3 | 2]) + length + content


def onnx_model(
    *, inputs: tuple[str, ...] = ("text",), outputs: tuple[str, ...] = ("echo",)
) -> bytes:
    """A ModelProto with a graph of these inputs and outputs, and no nodes."""
    graph = b"".join(protobuf(11, protobuf(1, name.encode())) for name in inputs)
    graph += b"".join(protobuf(12, protobuf(1, name.encode())) for name in outputs)
    return protobuf(7, graph)


def onnx_with_external(location: str) -> bytes:
    """The same with one initializer whose data lie in another file."""
    entry = protobuf(13, protobuf(1, b"location") + protobuf(2, location.encode()))
    tensor = protobuf(8, b"weights") + entry + bytes([14 << 3, 1])
    graph = onnx_model()[2:] + protobuf(5, tensor)
    return protobuf(7, graph)


def tar_of(files: Mapping[str, bytes]) -> io.BytesIO:
    """A plain tar of regular files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def onnx_package(
    manifest: str = MANIFEST, *, files: Mapping[str, bytes] | None = None
) -> io.BytesIO:
    """The echo package, with a changed manifest or further files."""
    content = {"model.yaml": manifest.encode(), "model.onnx": onnx_model()}
    return tar_of({**content, **(files or {})})


def python_package(
    manifest: str = PYTHON_MANIFEST, code: bytes = b"class Model: ...\n"
) -> io.BytesIO:
    """The same model as publisher code."""
    return tar_of({"model.yaml": manifest.encode(), "model.py": code})


@dataclass
class PlayedNode:
    """The outside world's node: answers with ``answer(document)``, and counts."""

    answer: Callable[[Any], Any] = lambda document: {"echo": document["text"]}
    node_name: str = "node-a"
    load_duration_ms: int = 7
    privacy: tuple[str, ...] = ()
    load_failure: trial.TrialFailure | None = None
    asked: list[Any] = field(default_factory=list)
    lent: int = 0

    def infer(self, document: Any, *, timeout_seconds: float) -> Any:
        self.asked.append(document)
        return self.answer(document)

    def offers_privacy(self, runtime: str) -> bool:
        return runtime in self.privacy

    @contextmanager
    def lend(self, version: Version) -> Iterator[trial.TrialSession]:
        self.lent += 1
        if self.load_failure is not None:
            raise self.load_failure
        yield self


def stored_packages(store_dir: Path) -> list[str]:
    """The CIDs that the embedded store keeps."""
    get_store()
    return sorted(path.name for path in (store_dir / "packages").iterdir())


def stored_blocks(store_dir: Path) -> int:
    """How many blocks lie on disk, staged ones included."""
    return sum(
        path.is_file() for part in ("blocks", "staging") for path in (store_dir / part).rglob("*")
    )


def refusal(publisher: Wallet, stream: Any, **kwargs: Any) -> Problem:
    """The problem that a registration ends with."""
    with pytest.raises(Problem) as caught:
        services.register(publisher=publisher, stream=stream, **kwargs)
    return caught.value


def nothing_is_there(store_dir: Path) -> bool:
    """Whether the registry has no row of a model and the store no block."""
    rows = (Model.objects, Version.objects, AccessPolicy.objects, Terms.objects)
    return not any(table.exists() for table in rows) and stored_blocks(store_dir) == 0


def bearer(
    wallet: Wallet, *actions: str, only: tuple[str, ...] = (), owned: bool = False
) -> dict[str, str]:
    """The header of a fresh scoped token."""
    _, text = mint_token(
        wallet=wallet,
        name="t",
        actions=actions or ("publish",),
        model_scope=Token.ModelScope.OWNED if owned else None,
        models_allowed=only,
        lifetime=timedelta(hours=1),
    )
    return {"Authorization": f"Bearer {text}"}


def login(wallet: Wallet) -> dict[str, str]:
    """The header of a program that is signed in as the wallet itself."""
    _, text = mint_token(
        wallet=wallet,
        name="t",
        actions=Token.Action.values,
        lifetime=timedelta(hours=1),
        kind=Token.Kind.LOGIN,
    )
    return {"Authorization": f"Bearer {text}"}
