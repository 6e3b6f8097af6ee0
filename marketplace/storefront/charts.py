"""Small charts as SVG text. Pure: no Django, no clock, the same values give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

PADDING = 4
DOT_RADIUS = 2.5
WIDTH_PER_DOT_PIXEL = 144
TICKS = 4
MINIMUM_POINTS = 2
NOTE_WIDTH = 264


def _number(value: float) -> str:
    """Shortest text of a coordinate at a tenth of a unit, so that equal charts are equal bytes."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def _open(label: str, width: int, height: int) -> str:
    return (
        f'<svg class="chart" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><title>{escape(label)}</title>'
    )


def _axis(width: int, height: int) -> str:
    base = height - PADDING
    ticks = "".join(
        f'<path class="chart-tick" d="M{_number(x)} {base}v{PADDING - 1}"/>'
        for x in (0.5 + (width - 1) * step / TICKS for step in range(TICKS + 1))
    )
    return f'<path class="chart-axis" d="M0 {base - 0.5}H{width}"/>{ticks}'


def _not_enough(label: str, width: int, height: int) -> str:
    # Words must not shrink with a wide drawing on a narrow screen.
    width = min(width, NOTE_WIDTH)
    middle = (height - PADDING) // 2
    return (
        f"{_open(label + ': not enough data', width, height)}"
        f'<path class="chart-empty" d="M0 {height - PADDING - 0.5}H{width}"/>'
        f'<text class="chart-note" x="0" y="{middle + 4}">not enough data</text></svg>'
    )


def _segments(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def sparkline_svg(
    values: Sequence[float | None],
    *,
    label: str,
    width: int = 132,
    height: int = 36,
    minimum_points: int = MINIMUM_POINTS,
) -> str:
    """An SVG line over evenly spaced values, oldest first; None is a gap (nothing measured).

    The vertical scale runs from zero (or the smallest value, if negative) to the largest, so that a
    steady series reads as steady. Fewer measured values than `minimum_points` are drawn as "not
    enough data"; a lone one is a dot.
    `label` is the text equivalent; it is escaped. Width and height are in CSS pixels.
    """
    measured = [value for value in values if value is not None]
    if len(measured) < max(1, minimum_points):
        return _not_enough(label, width, height)
    low, high = min(0.0, *measured), max(measured)
    span = (high - low) or 1.0
    base = height - PADDING - 1
    # A wide drawing is scaled down on a narrow screen, its dots with it.
    radius = _number(max(DOT_RADIUS, width / WIDTH_PER_DOT_PIXEL))
    step = (width - 2 * PADDING) / max(1, len(values) - 1)
    points = [
        None
        if value is None
        else (PADDING + index * step, base - (base - PADDING) * (value - low) / span)
        for index, value in enumerate(values)
    ]
    drawn = []
    for run in _segments(points):
        path = "L".join(f"{_number(x)} {_number(y)}" for x, y in run)
        first, last = run[0], run[-1]
        if len(run) == 1:
            x, y = first
            drawn.append(
                f'<circle class="chart-now" cx="{_number(x)}" cy="{_number(y)}" r="{radius}"/>'
            )
            continue
        drawn.append(
            f'<path class="chart-area" d="M{path}L{_number(last[0])} {base}'
            f'L{_number(first[0])} {base}Z"/><path class="chart-line" d="M{path}"/>'
        )
    now = points[-1]
    if now is not None:
        drawn.append(
            f'<circle class="chart-now" cx="{_number(now[0])}" cy="{_number(now[1])}" '
            f'r="{radius}"/>'
        )
    return f"{_open(label, width, height)}{_axis(width, height)}{''.join(drawn)}</svg>"


def columns_svg(
    counts: Sequence[int],
    *,
    label: str,
    width: int = 132,
    height: int = 36,
    hints: Sequence[str] = (),
) -> str:
    """An SVG column per period for a count, oldest first; zero is bare axis.

    Columns, not a line: a count belongs to its period and says nothing about the time between.
    `hints` are shown on hover, one a column. Without any count it says "not enough data". `label`
    is the text equivalent; both are escaped.
    """
    most = max(counts, default=0)
    if most <= 0:
        return _not_enough(label, width, height)
    pitch = width / len(counts)
    thick = max(1.0, pitch - 2)
    full = height - PADDING - 1
    drawn = []
    for index, count in enumerate(counts):
        x = _number(index * pitch + 1)
        if count > 0:
            tall = max(2.0, full * count / most)
            kind = "chart-column-now" if index == len(counts) - 1 else "chart-column"
            drawn.append(
                f'<rect class="{kind}" x="{x}" y="{_number(full - tall)}" '
                f'width="{_number(thick)}" height="{_number(tall)}"/>'
            )
        if hints:
            drawn.append(_hint(x, thick, full, hints[index]))
    return f"{_open(label, width, height)}{_axis(width, height)}{''.join(drawn)}</svg>"


def _hint(x: str, thick: float, full: int, text: str) -> str:
    return (
        f'<rect class="chart-hint" x="{x}" y="0" width="{_number(thick)}" height="{full}">'
        f"<title>{escape(text)}</title></rect>"
    )


def bars_svg(
    shares: Sequence[float | None],
    *,
    label: str,
    width: int = 264,
    height: int = 36,
    hints: Sequence[str] = (),
) -> str:
    """An SVG bar per period for a share between 0 and 1 (uptime, success), oldest first.

    A full share is a full bar, anything less is shorter by two pixels at least, zero is a stub,
    and None (nothing measured) is an outline: shape tells the state without the colour. Without
    any measured value the chart says "not enough data". `label` is the text equivalent, `hints` are
    shown on hover, one a bar; both are escaped.
    """
    if not any(share is not None for share in shares):
        return _not_enough(label, width, height)
    pitch = width / len(shares)
    thick = max(1.0, pitch - 2)
    full = height - PADDING - 1
    bars = []
    for index, share in enumerate(shares):
        x = _number(index * pitch + 1)
        if share is None:
            bars.append(
                f'<rect class="chart-bar-none" x="{x}" y="0.5" '
                f'width="{_number(thick)}" height="{full - 1}"/>'
            )
            if hints:
                bars.append(_hint(x, thick, full, hints[index]))
            continue
        kind = "chart-bar" if share >= 1 else "chart-bar-partial" if share > 0 else "chart-bar-down"
        tall = full if share >= 1 else min(full - 2.0, max(3.0, full * max(0.0, share)))
        bars.append(
            f'<rect class="{kind}" x="{x}" y="{_number(full - tall)}" '
            f'width="{_number(thick)}" height="{_number(tall)}"/>'
        )
        if hints:
            bars.append(_hint(x, thick, full, hints[index]))
    return f"{_open(label, width, height)}{''.join(bars)}{_axis(width, height)}</svg>"
