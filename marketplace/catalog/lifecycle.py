"""The stages of a version, how versions sort, and which one a call without a number gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from inframind.lib import semver

PENDING: Final = "pending"
ACTIVE: Final = "active"
POPULAR: Final = "popular"
DEPRECATED: Final = "deprecated"
DELISTED: Final = "delisted"

LIVE: Final = frozenset({ACTIVE, POPULAR})
CALLABLE: Final = frozenset({ACTIVE, POPULAR, DEPRECATED})

_NEXT: Final = {
    PENDING: frozenset({ACTIVE, DELISTED}),
    ACTIVE: frozenset({POPULAR, DEPRECATED, DELISTED}),
    POPULAR: frozenset({ACTIVE, DEPRECATED, DELISTED}),
    DEPRECATED: frozenset({ACTIVE, DELISTED}),
    DELISTED: frozenset({PENDING}),
}


class Standing(Protocol):
    """What the choice needs to know of a version."""

    @property
    def number(self) -> str: ...
    @property
    def state(self) -> str: ...


V = TypeVar("V", bound=Standing)


def may_become(state: str, after: str) -> bool:
    """Says whether a version in ``state`` may go to ``after``."""
    return after in _NEXT.get(state, frozenset())


def precedence(number: str) -> str:
    """A key of ASCII text whose byte order is the SemVer order of strict versions without build."""
    version = semver.Version.parse(number)
    core = ".".join(map(_counted, (version.major, version.minor, version.patch)))
    if not version.prerelease:
        return f"{core}~"
    parts = (f"0{_counted(int(p))}" if p.isdigit() else f"1{p}" for p in version.prerelease)
    # A blank sorts below everything an identifier may hold, as the shorter list of them does.
    return f"{core}-{' '.join(parts)}"


def _counted(number: int) -> str:
    digits = str(number)
    return f"{len(digits):02d}{digits}"


def choose_current(versions: Iterable[V]) -> V | None:
    """The version that stands for its model: the highest live release.

    Where no release is live: the highest live pre-release, then the highest deprecated release,
    then the highest deprecated pre-release; None when nothing can be called.
    """
    callable_ones = [version for version in versions if version.state in CALLABLE]
    return max(callable_ones, key=_rank, default=None)


def _rank(version: Standing) -> tuple[bool, bool, str]:
    key = precedence(version.number)
    return (version.state in LIVE, key.endswith("~"), key)
