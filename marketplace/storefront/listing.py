"""The list page's address is its state: query string to search request, and back to links."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import QueryDict

from marketplace.catalog.queries import SearchPage, SearchRequest

FACETS = {
    "task": "Task",
    "badge": "Badge",
    "price": "Price",
    "runtime": "Runtime",
    "stability": "Stability",
    "license": "Licence",
}
SORTS = {
    "relevance": "relevance",
    "calls": "calls",
    "price": "price",
    "newest": "newest",
    "name": "name",
}
SINGLE = frozenset({"price"})
TEXT_LIMIT = 200
VALUES_LIMIT = 50
PAGE_LIMIT = 10_000


@dataclass(frozen=True)
class FacetLink:
    """A facet value with the address that switches it."""

    id: str
    word: str
    count: int
    selected: bool
    url: str


@dataclass(frozen=True)
class FacetGroup:
    """A facet with its values."""

    key: str
    word: str
    values: tuple[FacetLink, ...]


@dataclass(frozen=True)
class Chip:
    """An active filter with the address that takes it away."""

    key: str
    word: str
    url: str


@dataclass(frozen=True)
class SortLink:
    """A sort order with its address."""

    word: str
    url: str
    current: bool


def _values(query: QueryDict, key: str) -> tuple[str, ...]:
    cleaned = (value.replace("\0", "")[:TEXT_LIMIT] for value in query.getlist(key)[:VALUES_LIMIT])
    return tuple(dict.fromkeys(value for value in cleaned if value))


def _page(query: QueryDict) -> int:
    text = query.get("page", "1")
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        return 1
    return min(max(1, int(text)), PAGE_LIMIT)


def search_request(query: QueryDict) -> SearchRequest:
    """What the address asks for; anything that cannot be meant is left out, never an error."""
    price = query.get("price", "")
    sort = query.get("sort", "relevance")
    return SearchRequest(
        text=query.get("q", "").replace("\0", "").strip()[:TEXT_LIMIT],
        tasks=_values(query, "task"),
        runtimes=_values(query, "runtime"),
        licenses=_values(query, "license"),
        badges=_values(query, "badge"),
        stabilities=_values(query, "stability"),
        price=price if price in ("free", "paid") else "",
        sort=sort if sort in SORTS else "relevance",
        page=_page(query),
    )


def address(query: QueryDict, **changes: list[str]) -> str:
    """This page's address with keys changed (an empty list removes one), back on page one."""
    changed = query.copy()
    for key in ("page", *changes):
        changed.pop(key, None)
    for key, values in changes.items():
        if values:
            changed.setlist(key, values)
    return f"/models?{changed.urlencode()}" if changed else "/models"


def _toggled(query: QueryDict, key: str, value: str, *, selected: bool) -> str:
    present = list(_values(query, key))
    if selected:
        return address(query, **{key: [each for each in present if each != value]})
    return address(query, **{key: [value] if key in SINGLE else [*present, value]})


def facet_groups(query: QueryDict, page: SearchPage) -> tuple[FacetGroup, ...]:
    """The facets with counts and switches, in the page's order; an empty one is left out."""
    return tuple(
        FacetGroup(
            key=key,
            word=word,
            values=tuple(
                FacetLink(
                    id=f"facet-{key}-{index}",
                    word=facet.label,
                    count=facet.count,
                    selected=facet.selected,
                    url=_toggled(query, key, facet.value, selected=facet.selected),
                )
                for index, facet in enumerate(page.facets[key])
            ),
        )
        for key, word in FACETS.items()
        if page.facets.get(key)
    )


def chips(query: QueryDict, request: SearchRequest) -> tuple[Chip, ...]:
    """What narrows the list now."""
    found = [Chip("search", request.text, address(query, q=[]))] if request.text else []
    for key, word in FACETS.items():
        if key in SINGLE:
            values: tuple[str, ...] = (request.price,) if request.price else ()
        else:
            values = _values(query, key)
        found.extend(
            Chip(word.lower(), value, _toggled(query, key, value, selected=True))
            for value in values
        )
    return tuple(found)


def sort_links(query: QueryDict, request: SearchRequest) -> tuple[SortLink, ...]:
    """The orders a reader can choose."""
    return tuple(
        SortLink(
            word, address(query, sort=[] if key == "relevance" else [key]), key == request.sort
        )
        for key, word in SORTS.items()
    )


def page_address(query: QueryDict, number: int) -> str:
    """The address of another page of the same list."""
    changed = query.copy()
    changed["page"] = str(number)
    return f"/models?{changed.urlencode()}"
