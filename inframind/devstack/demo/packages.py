"""Builds the demo packages: the files kept here beside those made from the wheels."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml

from inframind.devstack.demo.filetype import filetype
from inframind.devstack.demo.language_id import language_id
from inframind.devstack.demo.ocr import ocr
from inframind.devstack.demo.profanity_filter import profanity_filter
from inframind.devstack.demo.token_embedder import token_embedder
from inframind.devstack.demo.voice_activity import voice_activity
from inframind.devstack.demo.wheels import ROOT, Wheels

SOURCES = Path(__file__).parent
WHEELS = ROOT / "var" / "wheels"


def _no_weights(_wheels: Wheels) -> dict[str, bytes]:
    return {}


MODELS: dict[str, Callable[[Wheels], dict[str, bytes]]] = {
    "summarizer-v1": _no_weights,
    "filetype-v1": filetype,
    "voice-activity-v1": voice_activity,
    "language-id-v1": language_id,
    "profanity-filter-v1": profanity_filter,
    "token-embedder-v1": token_embedder,
    "ocr-v1": ocr,
}


def build(out: Path, wheels: Path = WHEELS) -> list[Path]:
    """Build every package into `out/<name>-<version>/` and return the folders.

    The same sources give the same bytes. The wheels are fetched into `wheels` once; RuntimeError
    when they cannot be.
    """
    archive = Wheels(wheels)
    return [_build(name, convert(archive), out) for name, convert in MODELS.items()]


def _build(name: str, weights: dict[str, bytes], out: Path) -> Path:
    source = SOURCES / name
    manifest = yaml.safe_load((source / "model.yaml").read_text("utf-8"))
    package = out / f"{manifest['name']}-{manifest['version']}"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, content in weights.items():
        (package / file).write_bytes(content)
    return package
