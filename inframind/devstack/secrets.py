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
    """One random text per part; ``chain`` is a private key, in hexadecimal."""

    django: str
    postgres: str
    redis: str
    triton: str
    chain: str


def kept_secrets(path: Path) -> Secrets:
    """The secrets in the file; made there on first use, each as soon as there is a use for it."""
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    kept = Secrets(**{**asdict(fresh_secrets()), **found})
    if asdict(kept) != found:
        write_private(path, asdict(kept))
    return kept


def fresh_secrets() -> Secrets:
    return Secrets(
        django=secrets.token_urlsafe(32),
        postgres=secrets.token_urlsafe(32),
        redis=secrets.token_urlsafe(32),
        triton=secrets.token_urlsafe(32),
        chain=f"0x{secrets.token_hex(32)}",
    )


def write_private(path: Path, document: dict[str, Any]) -> None:
    """Write JSON atomically with mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        json.dump(document, stream, indent=2)
    fresh.rename(path)
