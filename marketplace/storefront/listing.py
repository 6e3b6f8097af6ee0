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
    "relevance": "best match",
    "calls": "most called",
    "price": "price",
    "newest": "newest",
    "name": "name",
}
VIEWS = {"rows": "Rows", "cards": "Cards"}
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
class SwitchLink:
    """One of several ways to show the list (an order, rows or cards), with its address."""

    key: str
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


def chips(query: QueryDict, request: SearchRequest, page: SearchPage) -> tuple[Chip, ...]:
    """What narrows the list now, in the words of the facets."""
    found = [Chip("search", request.text, address(query, q=[]))] if request.text else []
    for key, word in FACETS.items():
        if key in SINGLE:
            values: tuple[str, ...] = (request.price,) if request.price else ()
        else:
            values = _values(query, key)
        words = {facet.value: facet.label for facet in page.facets.get(key, ())}
        found.extend(
            Chip(word.lower(), words.get(value, value), _toggled(query, key, value, selected=True))
            for value in values
        )
    return tuple(found)


def sort_links(query: QueryDict, request: SearchRequest) -> tuple[SwitchLink, ...]:
    """The orders a reader can choose; without words to match, the most called come first."""
    usual = "relevance" if request.text else "calls"
    chosen = usual if request.sort == "relevance" else request.sort
    return tuple(
        SwitchLink(key, word, address(query, sort=[] if key == usual else [key]), key == chosen)
        for key, word in SORTS.items()
        if key != "relevance" or request.text
    )


def view_of(query: QueryDict) -> str:
    """Whether the list is shown as `rows`, which compare well, or as `cards`."""
    view = query.get("view", "rows")
    return view if view in VIEWS else "rows"


def view_links(query: QueryDict) -> tuple[SwitchLink, ...]:
    """Rows or cards, on the same page of the same list."""
    links = []
    for key, word in VIEWS.items():
        changed = query.copy()
        changed.pop("view", None)
        if key != "rows":
            changed["view"] = key
        url = f"/models?{changed.urlencode()}" if changed else "/models"
        links.append(SwitchLink(key, word, url, key == view_of(query)))
    return tuple(links)


def page_address(query: QueryDict, number: int) -> str:
    """The address of another page of the same list."""
    changed = query.copy()
    changed["page"] = str(number)
    return f"/models?{changed.urlencode()}"
