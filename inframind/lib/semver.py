"""Semantic versions (SemVer 2.0.0), with the short forms that people write."""

import re
from dataclasses import dataclass
from typing import Final, Self

MAX_CHARACTERS: Final = 64

_NUMBER: Final = r"(?:0|[1-9][0-9]{0,17})"
_IDENTIFIER: Final = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    rf"(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER}))?(?:\.(?P<patch>{_NUMBER}))?"
    rf"(?:-(?P<prerelease>{_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+(?P<build>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)

OrderKey = tuple[int, int, int, int, tuple[tuple[int, int, str], ...]]


@dataclass(frozen=True, slots=True)
class Version:
    """A strict semantic version; `str()` gives its text, `order_key` its place."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads the strict form `MAJOR.MINOR.PATCH[-pre][+build]`; raises ValueError otherwise."""
        match = _match(text)
        if match is None or match["minor"] is None or match["patch"] is None:
            raise ValueError(_advice(text))
        return cls._of(match)

    @classmethod
    def _of(cls, match: re.Match[str]) -> Self:
        return cls(
            int(match["major"]),
            int(match["minor"] or 0),
            int(match["patch"] or 0),
            tuple(match["prerelease"].split(".")) if match["prerelease"] else (),
            tuple(match["build"].split(".")) if match["build"] else (),
        )

    @property
    def order_key(self) -> OrderKey:
        """Sorts by SemVer precedence; builds of one version share a key."""
        identifiers = tuple(
            (0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.prerelease
        )
        return (self.major, self.minor, self.patch, 0 if self.prerelease else 1, identifiers)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        if self.prerelease:
            text += f"-{'.'.join(self.prerelease)}"
        if self.build:
            text += f"+{'.'.join(self.build)}"
        return text


def normalize(text: str) -> str:
    """Returns the strict form: `"1"` and `"1.0"` become `"1.0.0"`; raises ValueError otherwise."""
    match = _match(text.strip())
    strict = "" if match is None else str(Version._of(match))
    if not 0 < len(strict) <= MAX_CHARACTERS:
        raise ValueError(_advice(text))
    return strict


def order_key(text: str) -> OrderKey:
    """Returns the sort key of a version in strict or short form; raises ValueError otherwise."""
    return Version.parse(normalize(text)).order_key


def _match(text: str) -> re.Match[str] | None:
    return _VERSION.fullmatch(text) if len(text) <= MAX_CHARACTERS else None


def _advice(text: str) -> str:
    return (
        f"{text[:MAX_CHARACTERS]!r} is not a semantic version. Write three numbers without leading "
        'zeros, like "1.0.0" or "2.1.0-beta.1" ("1.0" is read as "1.0.0"), at most '
        f"{MAX_CHARACTERS} characters."
    )
