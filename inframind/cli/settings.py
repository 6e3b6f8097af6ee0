"""Which server, with which token: the environment, then the config file, then the login."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from inframind.cli import logins, refusal, state
from inframind.cli.terminal import err, styled

DEFAULT_URL: Final = "http://127.0.0.1:8000"
KNOWN_KEYS: Final = ("url", "keystore")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's base URL without a trailing slash, and the token or an empty text.

    ``token_source`` is ``INFRA_TOKEN``, ``login`` or empty; ``expired_at`` is when the login that
    would have been used ended, or empty.
    """

    url: str
    url_source: str
    token: str = field(repr=False)
    token_source: str = ""
    expired_at: str = ""

    @property
    def on_this_machine(self) -> bool:
        return (urlsplit(self.url).hostname or "") in _LOOPBACK


def config_path() -> Path:
    """``$XDG_CONFIG_HOME/infra/config.toml``."""
    return state.xdg("XDG_CONFIG_HOME", ".config") / "config.toml"


def load(*, quiet: bool = False) -> Settings:
    """Reads all three; raises Refusal (exit 2) that names the place that cannot be used.

    Warns on stderr of a token that goes over an open line, unless ``quiet``.
    """
    settings = _with_token(*server_url())
    if settings.token and not quiet:
        warn_in_the_open(settings)
    return settings


def warn_in_the_open(settings: Settings) -> None:
    """Warns on stderr where others on the way to the server can read along."""
    if settings.url.startswith("http://") and not settings.on_this_machine:
        err(
            f"{styled('Warning:', 'yellow')} {settings.url} is not encrypted: others on the way "
            "can read your token. Use https://."
        )


def server_url() -> tuple[str, str]:
    """The server's base URL and where it is from. Raises Refusal (exit 2)."""
    url, source = os.environ.get("INFRA_URL", "").strip(), "INFRA_URL"
    if not url:
        document = _configured()
        url = document.get("url", DEFAULT_URL).strip()
        source = str(config_path()) if "url" in document else "the default"
    return _checked(url, source), source


def keystore_path() -> Path:
    """The keystore: the config file's ``keystore``, or ``$XDG_DATA_HOME/infra/wallet.json``.

    Raises Refusal (exit 2).
    """
    configured = _configured().get("keystore")
    if configured is None:
        return state.xdg("XDG_DATA_HOME", ".local/share") / "wallet.json"
    # A relative path would name another file in every folder that the command runs in.
    return (config_path().parent / Path(configured).expanduser()).absolute()


def environment_token() -> str:
    """INFRA_TOKEN, or an empty text. Raises Refusal (exit 2) for what no token can be."""
    return checked_token(os.environ.get("INFRA_TOKEN", ""), "INFRA_TOKEN")


def checked_token(text: str, source: str) -> str:
    """The token without blanks around it. Raises Refusal (exit 2), which does not show it."""
    token = text.strip()
    if token and not all("!" <= character <= "~" for character in token):
        raise refusal.usage(
            f"{source} holds characters that no token has (blanks, line ends or non-ASCII).",
            "Copy the token again, on one line and without quotes.",
        )
    return token


def _with_token(url: str, source: str) -> Settings:
    token = environment_token()
    if token:
        return Settings(url, source, token, "INFRA_TOKEN")
    login = logins.of(url)
    if login is None:
        return Settings(url, source, "")
    if login.expired:
        return Settings(url, source, "", expired_at=login.expires_at)
    return Settings(url, source, checked_token(login.token, str(logins.path())), "login")


def _configured() -> dict[str, Any]:
    path = config_path()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise refusal.usage(
            f"The config file {path} cannot be read: {error}.",
            f'Mend it, or remove it. It holds lines like: url = "{DEFAULT_URL}"',
        ) from error
    for key, value in document.items():
        if key not in KNOWN_KEYS:
            raise refusal.usage(
                f"{path} sets {key!r}, which is unknown.", f"Known are: {', '.join(KNOWN_KEYS)}."
            )
        if not isinstance(value, str):
            raise refusal.usage(
                f"In {path}, {key} is not a text.", f'Write it in quotes, like: {key} = "…"'
            )
    return document


def _checked(url: str, source: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        good = good and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        good = False
    else:
        if parts.username is not None or parts.password is not None:
            raise refusal.usage(
                f"The server address of {source} carries a user name or password.",
                "Leave them out: who you are is told by `infra login` or INFRA_TOKEN alone.",
            )
    if not good:
        raise refusal.usage(
            f"{url!r} (from {source}) is not the address of a server.",
            f"Write it like {DEFAULT_URL}.",
        )
    return url.rstrip("/")
