"""The stack's own secrets: made once, kept in a file that only its owner reads."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Secrets:
    """One random text per part."""

    django: str
    postgres: str
    redis: str
    triton: str


def kept_secrets(path: Path) -> Secrets:
    """The secrets in the file; made there on first use."""
    try:
        return Secrets(**json.loads(path.read_text()))
    except FileNotFoundError:
        fresh = fresh_secrets()
    write_private(path, asdict(fresh))
    return fresh


def fresh_secrets() -> Secrets:
    return Secrets(*(secrets.token_urlsafe(32) for _ in range(4)))


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write JSON atomically with mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(document, stream, indent=2)
    fresh.rename(path)
