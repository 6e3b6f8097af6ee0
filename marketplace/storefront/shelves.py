"""Where the pages get the curated lists from: the floor above fills this in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from inframind.lib.problem import not_found
from marketplace.catalog.models import Model


class Entry(Protocol):
    """One model on a shelf."""

    @property
    def position(self) -> int: ...
    @property
    def model(self) -> Model: ...
    @property
    def score(self) -> str: ...
    @property
    def figures(self) -> Mapping[str, Any]: ...


class Shelf(Protocol):
    """A curated list with its rule, as last computed."""

    @property
    def slug(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def rule(self) -> str: ...
    @property
    def empty(self) -> str: ...
    @property
    def computed_at(self) -> datetime | None: ...
    @property
    def entries(self) -> Sequence[Entry]: ...
    @property
    def total(self) -> int: ...


class Source(Protocol):
    """What curation offers to the pages."""

    def featured(self, *, entries_per_shelf: int = 4) -> Sequence[Shelf]: ...
    def shelf(self, slug: str) -> Shelf: ...


class _Empty:
    def featured(self, *, entries_per_shelf: int = 4) -> Sequence[Shelf]:
        return ()

    def shelf(self, slug: str) -> Shelf:
        raise not_found(f"collection called {slug}")


_source: Source = _Empty()


def set_source(source: Source) -> None:
    """Say where shelves come from; called once, when the curating app is ready."""
    global _source
    _source = source


def source() -> Source:
    """The shelves' source; empty when no curation app is installed."""
    return _source
