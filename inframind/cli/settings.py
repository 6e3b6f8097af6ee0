"""Which server, with which token: the environment, then the config file, then this machine."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from inframind.cli import refusal
from inframind.cli.terminal import err, styled

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's base URL without a trailing slash, and the token or an empty text."""

    url: str
    url_source: str
    token: str = field(repr=False)

    @property
    def on_this_machine(self) -> bool:
        return (urlsplit(self.url).hostname or "") in _LOOPBACK


def config_path() -> Path:
    """``$XDG_CONFIG_HOME/infra/config.toml``."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG rules say that a relative path there is to be ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "infra" / "config.toml"


def load() -> Settings:
    """Reads both places; raises Refusal (exit 2) that names the place that cannot be used."""
    url, source = os.environ.get("INFRA_URL", "").strip(), "INFRA_URL"
    if not url:
        url, source = _configured_url()
    settings = Settings(_checked(url, source), source, _token())
    if settings.token and settings.url.startswith("http://") and not settings.on_this_machine:
        err(
            f"{styled('Warning:', 'yellow')} {settings.url} is not encrypted: others on the way "
            "can read your token. Use https://."
        )
    return settings


def _configured_url() -> tuple[str, str]:
    path = config_path()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return DEFAULT_URL, "the default"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise refusal.usage(
            f"The config file {path} cannot be read: {error}.",
            f'Mend it, or remove it. It holds one line, like: url = "{DEFAULT_URL}"',
        ) from error
    url = document.get("url", DEFAULT_URL)
    if not isinstance(url, str):
        raise refusal.usage(
            f"In {path}, url is not a text.", f'Write it like: url = "{DEFAULT_URL}"'
        )
    return url.strip(), str(path) if "url" in document else "the default"


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
                "Leave them out: who you are is told by INFRA_TOKEN alone.",
            )
    if not good:
        raise refusal.usage(
            f"{url!r} (from {source}) is not the address of a server.",
            f"Write it like {DEFAULT_URL}.",
        )
    return url.rstrip("/")


def _token() -> str:
    token = os.environ.get("INFRA_TOKEN", "").strip()
    if token and not all("!" <= character <= "~" for character in token):
        raise refusal.usage(
            "INFRA_TOKEN holds characters that no token has (blanks, line ends or non-ASCII).",
            "Copy the token again, on one line and without quotes.",
        )
    return token
