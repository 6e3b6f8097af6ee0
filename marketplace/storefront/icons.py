"""The icons of the pages: our own strokes on a 16-unit grid, as SVG text. Pure, no Django."""

from __future__ import annotations

STROKES = {
    "search": "M7 2.5a4.5 4.5 0 1 1 0 9a4.5 4.5 0 0 1 0-9ZM10.4 10.4L13.8 13.8",
    "copy": "M5.5 5.5h7.5v8h-7.5ZM3 10.5v-8h7.5",
    "check": "M3 8.5l3.2 3.2L13 4.8",
    "cross": "M4 4l8 8M12 4l-8 8",
    "menu": "M2 4.5h12M2 8h12M2 11.5h12",
    "rows": "M2.5 4h11M2.5 8h11M2.5 12h11",
    "cards": "M2.5 2.5h4.5v4.5h-4.5ZM9 2.5h4.5v4.5H9ZM2.5 9h4.5v4.5h-4.5ZM9 9h4.5v4.5H9Z",
    "sun": "M8 5.2a2.8 2.8 0 1 1 0 5.6a2.8 2.8 0 0 1 0-5.6Z"
    "M8 1.5v1.6M8 12.9v1.6M1.5 8h1.6M12.9 8h1.6"
    "M3.4 3.4l1.1 1.1M11.5 11.5l1.1 1.1M3.4 12.6l1.1-1.1M11.5 4.5l1.1-1.1",
    "moon": "M13.2 9.6A5.7 5.7 0 0 1 6.4 2.8a5.7 5.7 0 1 0 6.8 6.8Z",
    "half": "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6ZM8 2.2v11.6M8 5h4.9M8 8h5.8M8 11h4.9",
    "hash": "M5.8 2.5l-1.2 11M11.4 2.5l-1.2 11M2.8 5.8h11M2.2 10.2h11",
    "braces": "M6 2.5c-2.4 0-1 5-3.5 5.5c2.5.5 1.1 5.5 3.5 5.5"
    "M10 2.5c2.4 0 1 5 3.5 5.5c-2.5.5-1.1 5.5-3.5 5.5",
    "chain": "M6.7 9.3a2.6 2.6 0 0 0 3.8.2l2.2-2.2a2.7 2.7 0 0 0-3.8-3.8L8 4.4"
    "M9.3 6.7a2.6 2.6 0 0 0-3.8-.2L3.3 8.7a2.7 2.7 0 0 0 3.8 3.8L8 11.6",
    "shield": "M8 1.8l5 1.8v4.2c0 3-2 5.2-5 6.4c-3-1.2-5-3.4-5-6.4V3.6ZM5.6 8l1.8 1.8l3.2-3.6",
    "lock": "M3.5 7h9v6.5h-9ZM5.3 7V5a2.7 2.7 0 0 1 5.4 0v2",
    "flask": "M6 2h4M6.6 2v4L3 12.4a.8.8 0 0 0 .7 1.1h8.6a.8.8 0 0 0 .7-1.1L9.4 6V2M5 10h6",
    "node": "M2.5 3h11v4h-11ZM2.5 9h11v4h-11ZM5 5h.01M5 11h.01",
    "warn": "M8 2.2l6.2 11H1.8ZM8 6.4v3.2M8 11.4v.2",
    "info": "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6ZM8 7.4v3.6M8 5v.2",
    "clock": "M8 2.2a5.8 5.8 0 1 1 0 11.6a5.8 5.8 0 0 1 0-11.6ZM8 4.8V8l2.2 1.6",
    "arrow": "M2.5 8h11M9.5 4l4 4l-4 4",
    "back": "M13.5 8h-11M6.5 4l-4 4l4 4",
    "down": "M4 6.2l4 4l4-4",
    "download": "M8 2.5v7.5M4.8 7l3.2 3.2L11.2 7M2.8 13.2h10.4",
}


def icon_svg(name: str, *, size_px: int = 16) -> str:
    """The named icon, hidden from assistive technology. Raises KeyError for an unknown name."""
    return (
        f'<svg class="icon icon-{name}" width="{size_px}" height="{size_px}" '
        'viewBox="0 0 16 16" fill="none" '
        'stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" '
        f'aria-hidden="true" focusable="false"><path d="{STROKES[name]}"/></svg>'
    )
