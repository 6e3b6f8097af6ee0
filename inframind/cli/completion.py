"""Names of models for the shell's completion: quick, and silent when the server does not answer."""

from __future__ import annotations

import time
from typing import Final
from urllib.parse import parse_qs, urlsplit

_TIMEOUT_SECONDS: Final = 0.8
_MOST: Final = 40


def model_names(incomplete: str) -> list[str]:
    """Names that begin with what was typed; none when the server is slow, away or refuses."""
    # A shell shows whatever goes wrong here in the middle of the line that is being typed.
    try:
        return _names(incomplete)
    except Exception:
        return []


def _names(incomplete: str) -> list[str]:
    import httpx

    from inframind.cli import settings

    configured = settings.load(quiet=True)
    headers = {"User-Agent": "infra", "Accept": "application/json"}
    if configured.token:
        headers["Authorization"] = f"Bearer {configured.token}"
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    found: list[str] = []
    query: dict[str, list[str]] = {"sort": ["name"]}
    with httpx.Client(
        timeout=_TIMEOUT_SECONDS, headers=headers, trust_env=not configured.on_this_machine
    ) as client:
        while len(found) < _MOST and time.monotonic() < deadline:
            page = client.get(f"{configured.url}/api/v1/models", params=query).json()
            names = [str(each["name"]) for each in page["results"]]
            found += [name for name in names if name.startswith(incomplete)]
            if not page.get("next"):
                break
            query = parse_qs(urlsplit(page["next"]).query)
    return found[:_MOST]
