"""Inputs drawn from a stranger's schema, in a process of its own that may be ended at any time.

A schema can make a generator run for ever or fill the memory, and nothing in one process can stop
that surely. So a child reads the schema on stdin and writes one JSON document a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson

from inframind.lib.pointer import tokens_of

MAX_DOCUMENT_BYTES: Final = 64 << 10
_MAX_MEMORY_BYTES: Final = 2 << 30
_MAX_PARTS: Final = 20_000
_MAX_UNROLLED: Final = 2
_ROOT: Final = Path(__file__).resolve().parents[2]
_BASE64: Final = "^(?:[A-Za-z0-9+/]{4}){0,64}$"
_DATA: Final = frozenset({"const", "enum", "default", "examples"})


def generate(schema: dict[str, Any], *, count: int, seed: int, timeout_seconds: float) -> list[Any]:
    """Up to ``count`` documents for a checked schema; the same seed gives the same ones.

    Fewer come back where the schema allows no more or time runs out, none where it is beyond the
    generator. They come from a model of the schema: hold each against the schema before use.
    """
    order = json.dumps({"schema": schema, "count": count, "seed": seed}).encode()
    # A file, so that what was written before a timeout is not lost with the pipe.
    with tempfile.TemporaryFile() as out:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "marketplace.catalog.generation"],
                input=order,
                stdout=out,
                stderr=subprocess.DEVNULL,
                timeout=timeout_seconds,
                cwd=_ROOT,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"},
                check=False,
            )
        out.seek(0)
        documents = []
        for line in out:
            # Read as a call's body is, so that what is tried can also be sent.
            with contextlib.suppress(orjson.JSONDecodeError):
                documents.append(orjson.loads(line))
        return documents[:count]


def prepared(schema: Any) -> Any:
    """The schema as the generator knows it: base64 as a pattern, foreign patterns left out."""
    if isinstance(schema, list):
        return [prepared(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: value if key in _DATA else prepared(value) for key, value in schema.items()}
    pattern = changed.get("pattern")
    if isinstance(pattern, str):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            del changed["pattern"]
    elif changed.get("contentEncoding") == "base64" and pattern is None:
        changed["pattern"] = _BASE64
    return changed


def unrolled(schema: dict[str, Any]) -> Any:
    """The schema with every $ref written out, a circle only twice round. Raises ValueError when it
    grows too large."""
    left = [_MAX_PARTS]

    def expand(part: Any, path: tuple[str, ...]) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("The schema is too large once its references are written out.")
        if isinstance(part, list):
            return [expand(item, path) for item in part]
        if not isinstance(part, dict):
            return part
        reference = part.get("$ref")
        if isinstance(reference, str):
            if path.count(reference) >= _MAX_UNROLLED:
                return False
            return expand(_target(schema, reference), (*path, reference))
        return {
            key: value if key in _DATA else expand(value, path)
            for key, value in part.items()
            if key not in ("definitions", "$defs")
        }

    return expand(schema, ())


def _target(root: Any, reference: str) -> Any:
    part = root
    for token in tokens_of(reference.removeprefix("#")):
        part = part[int(token)] if isinstance(part, list) else part[token]
    return part


def _documents(schema: Any, count: int, seed: int) -> Iterator[Any]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis_jsonschema import from_schema

    found: list[Any] = []

    def collect(document: Any) -> None:
        found.append(document)
        _write(document)

    run = settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )(given(from_schema(schema))(collect))
    seeded(seed)(run)()
    yield from found


def _write(document: Any) -> None:
    try:
        line = json.dumps(document, allow_nan=False).encode()
    except ValueError:
        return
    if len(line) <= MAX_DOCUMENT_BYTES:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()


def main() -> int:
    """The child's side: 0 when every document asked for was tried."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    order = json.load(sys.stdin)
    random.seed(order["seed"])
    schema = prepared(order["schema"])
    try:
        for _ in _documents(schema, order["count"], order["seed"]):
            pass
    except Exception as error:
        if type(error).__name__ != "HypothesisRefResolutionError":
            return 1
        for _ in _documents(prepared(unrolled(order["schema"])), order["count"], order["seed"]):
            pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
