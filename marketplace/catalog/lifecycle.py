"""The stages of a version, and how versions sort."""

from __future__ import annotations

from typing import Final

from inframind.lib import semver

PENDING: Final = "pending"
ACTIVE: Final = "active"
POPULAR: Final = "popular"
DEPRECATED: Final = "deprecated"
DELISTED: Final = "delisted"

LIVE: Final = frozenset({ACTIVE, POPULAR})
CALLABLE: Final = frozenset({ACTIVE, POPULAR, DEPRECATED})

RELEASE_MARK: Final = "~"  # ends the key of a release, and sorts above every pre-release

_NEXT: Final = {
    PENDING: frozenset({ACTIVE, DELISTED}),
    ACTIVE: frozenset({POPULAR, DEPRECATED, DELISTED}),
    POPULAR: frozenset({ACTIVE, DEPRECATED, DELISTED}),
    DEPRECATED: frozenset({ACTIVE, DELISTED}),
    DELISTED: frozenset({PENDING}),
}


def may_become(state: str, after: str) -> bool:
    """Says whether a version in ``state`` may go to ``after``."""
    return after in _NEXT.get(state, frozenset())


def precedence(number: str) -> str:
    """A key of ASCII text whose byte order is the SemVer order of strict versions without build."""
    version = semver.Version.parse(number)
    core = ".".join(map(_counted, (version.major, version.minor, version.patch)))
    if not version.prerelease:
        return f"{core}{RELEASE_MARK}"
    parts = (f"0{_counted(int(p))}" if p.isdigit() else f"1{p}" for p in version.prerelease)
    # A blank sorts below everything an identifier may hold, as the shorter list of them does.
    return f"{core}-{' '.join(parts)}"


def _counted(number: int) -> str:
    digits = str(number)
    return f"{len(digits):02d}{digits}"
