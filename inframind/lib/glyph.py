"""The glyph: a small symmetric mesh drawn from a CID or an address; equal things look equal.

A lattice right of an upright axis is mirrored to the left. The seed's hash decides which of its
places are nodes, how large each is, and which neighbours are joined.
"""

import hashlib
from html import escape
from typing import Final

_VIEW: Final = 64
_MARGIN: Final = 6.5
_CLOSEST_VIEW: Final = 52
# Below this size thin lines would dissolve between the pixels.
_SMALL_PX: Final = 32
_SMALL_WEIGHT: Final = 1.3
_AXIS: Final = _VIEW // 2
_COLUMNS: Final = (32, 45, 58)
_ROWS: Final = (6, 19, 32, 45, 58)
_RADII: Final = (2.8, 3.8, 5.2)

_Place = tuple[int, int]


class _Bits:
    """Draws small numbers from the hash of the seed, in order."""

    def __init__(self, seed: str) -> None:
        self._stream = int.from_bytes(hashlib.sha512(seed.encode()).digest(), "big")

    def take(self, below: int) -> int:
        self._stream, value = divmod(self._stream, below)
        return value


def glyph_svg(seed: str, *, size_px: int, label: str) -> str:
    """Returns an inline SVG of `size_px` square pixels; the same seed gives the same drawing.

    Colours come from `currentColor` and from the classes `glyph`, `glyph-edges`, `glyph-nodes`
    and `glyph-heart`; nothing is styled inline. `label` is escaped and becomes the title.
    """
    bits = _Bits(seed)
    heart, nodes, edges = _mesh(bits)
    # The view closes in on the drawing, so that small meshes stay legible at 20 pixels.
    columns, rows = zip(heart, *nodes, strict=True)
    middle = (min(rows) + max(rows)) / 2
    extent = max(max(columns) - min(columns), max(rows) - min(rows))
    weight = _SMALL_WEIGHT if size_px < _SMALL_PX else 1.0
    side = max(extent + 2 * _MARGIN * weight, _CLOSEST_VIEW)
    view = f"{_AXIS - side / 2:g} {middle - side / 2:g} {side:g} {side:g}"
    lines = "".join(f'<path d="M{start[0]} {start[1]}L{end[0]} {end[1]}"/>' for start, end in edges)
    dots = "".join(
        f'<circle cx="{column}" cy="{row}" r="{radius * weight:g}"/>'
        for (column, row), radius in sorted(nodes.items())
    )
    ring = f'<circle class="glyph-heart" cx="{heart[0]}" cy="{heart[1]}" r="{6.4 * weight:g}"/>'
    return (
        f'<svg class="glyph" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'width="{size_px}" height="{size_px}" viewBox="{view}">'
        f"<title>{escape(label)}</title>"
        f'<g class="glyph-edges" fill="none" stroke="currentColor" stroke-width="{2.8 * weight:g}" '
        f'stroke-linecap="round">{lines}</g>'
        f'<g class="glyph-nodes" fill="currentColor">{ring}{dots}</g></svg>'
    )


def _mesh(bits: _Bits) -> tuple[_Place, dict[_Place, float], list[tuple[_Place, _Place]]]:
    """Grows a connected half mesh from a heart on the axis, then mirrors it."""
    heart = (_AXIS, _ROWS[1 + bits.take(3)])
    grown = [heart]
    joined: list[tuple[_Place, _Place]] = []
    for _ in range(5 + bits.take(3)):
        options = [
            (start, end)
            for start in grown
            for end in _neighbours(start)
            if end not in grown and not _crosses(start, end, joined)
        ]
        start, end = options[bits.take(len(options))]
        grown.append(end)
        joined.append((start, end))
    for _ in range(2):
        options = [
            (start, end)
            for start in grown
            for end in _neighbours(start)
            if start < end
            and end in grown
            and (start, end) not in joined
            and (end, start) not in joined
            and not _crosses(start, end, joined)
        ]
        if options:
            joined.append(options[bits.take(len(options))])
    nodes: dict[_Place, float] = {}
    for place in grown:
        if place != heart:
            radius = _RADII[bits.take(len(_RADII))]
            nodes[place] = nodes[_mirrored(place)] = radius
    edges = {*joined, *((_mirrored(start), _mirrored(end)) for start, end in joined)}
    return heart, nodes, sorted(edges)


def _neighbours(place: _Place) -> list[_Place]:
    column, row = _COLUMNS.index(place[0]), _ROWS.index(place[1])
    return [
        (_COLUMNS[column + across], _ROWS[row + down])
        for across in (-1, 0, 1)
        for down in (-1, 0, 1)
        if (across or down)
        and 0 <= column + across < len(_COLUMNS)
        and 0 <= row + down < len(_ROWS)
    ]


def _crosses(start: _Place, end: _Place, joined: list[tuple[_Place, _Place]]) -> bool:
    """Says whether a diagonal would cross one already drawn; their middles would coincide."""
    middle = (start[0] + end[0], start[1] + end[1])
    return any((a[0] + b[0], a[1] + b[1]) == middle for a, b in joined)


def _mirrored(place: _Place) -> _Place:
    return (_VIEW - place[0], place[1])
