"""Typed readers of the environment: the one way settings learn about the outside.

Where no ``DATABASE_URL`` is given, values of a running embedded stack (``var/stack.json``) fill the
gaps, so that management commands find it by themselves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})


class EnvironmentProblem(ValueError):
    """A variable is missing or malformed; the message names it and what it should look like."""


class Environment:
    """Read variables as typed values. Raises ``EnvironmentProblem`` naming the variable."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def of_process(cls, stack_file: Path) -> Environment:
        """The process environment, filled up from a running embedded stack unless one is given."""
        values = dict(os.environ)
        if "DATABASE_URL" not in values and stack_file.is_file():
            stack: dict[str, Any] = json.loads(stack_file.read_text())
            values = {**stack["env"], **values}
        return cls(values)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.get(name, default)
        if value is None:
            raise EnvironmentProblem(
                f"{name} is not set. Start the embedded stack with `make dev`, or set {name}."
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise EnvironmentProblem(f"{name} must be 1 or 0, not {value!r}.")

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            raise EnvironmentProblem(f"{name} must be a whole number, not {value!r}.") from None
        if number < minimum:
            raise EnvironmentProblem(f"{name} must be at least {minimum}, not {number}.")
        return number

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of the choices, the first unless given."""
        value = self._values.get(name, choices[0])
        if value not in choices:
            raise EnvironmentProblem(f"{name} must be {' or '.join(choices)}, not {value!r}.")
        return value

    def listing(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        value = self._values.get(name)
        if value is None:
            return list(default)
        return [part.strip() for part in value.split(",") if part.strip()]

    def document(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is None:
            return default
        try:
            return json.loads(value)
        except ValueError as error:
            raise EnvironmentProblem(f"{name} must be JSON: {error}.") from None

    def postgres(self, name: str) -> dict[str, Any]:
        """A ``postgresql://`` URL as Django's database settings (a Unix socket in ``?host=``)."""
        url = urlsplit(self.text(name))
        if url.scheme not in {"postgres", "postgresql"}:
            raise EnvironmentProblem(f"{name} must start with postgresql://, not {url.scheme}://.")
        options = dict(parse_qsl(url.query))
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path.lstrip("/")) or "postgres",
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": unquote(options.pop("host", "") or url.hostname or ""),
            "PORT": str(options.pop("port", "") or url.port or ""),
            "OPTIONS": options,
        }
