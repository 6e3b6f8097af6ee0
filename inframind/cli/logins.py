"""What ``infra login`` keeps: a token for each server, for that server only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inframind.cli import refusal, state


@dataclass(frozen=True, slots=True)
class Login:
    """A wallet that is signed in at a server. ``expires_at`` is RFC 3339."""

    address: str
    token: str = field(repr=False)
    token_id: str
    expires_at: str

    @property
    def expired(self) -> bool:
        return datetime.fromisoformat(self.expires_at) <= datetime.now(UTC)


def path() -> Path:
    """``$XDG_STATE_HOME/infra/logins.json``."""
    return state.xdg("XDG_STATE_HOME", ".local/state") / "logins.json"


def of(url: str) -> Login | None:
    """The login at exactly this server, expired or not. Raises Refusal (exit 2)."""
    return _read().get(url)


def keep(url: str, login: Login) -> None:
    """Replaces the login at this server. Raises Refusal (exit 2) or ``OSError``."""
    with state.locked(path()):
        _write(_read() | {url: login})


def forget(url: str) -> None:
    """Removes the login at this server. Raises Refusal (exit 2) or ``OSError``."""
    with state.locked(path()):
        _write({known: login for known, login in _read().items() if known != url})


def _read() -> dict[str, Login]:
    text = state.read_private(path())
    if text is None:
        return {}
    try:
        return {str(url): _login(each) for url, each in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise refusal.usage(
            f"{path()} is not what `infra login` wrote.", "Remove it, and sign in: infra login"
        ) from error


def _login(document: dict[str, Any]) -> Login:
    login = Login(*(str(document[key]) for key in ("address", "token", "token_id", "expires_at")))
    if datetime.fromisoformat(login.expires_at).tzinfo is None:
        raise ValueError("the time has no zone")
    return login


def _write(logins: dict[str, Login]) -> None:
    document = {url: asdict(login) for url, login in sorted(logins.items())}
    state.write_private(path(), json.dumps(document, indent=2) + "\n")
