"""Template tags of the pages: amounts, glyphs, ages, charts and the small components."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from billing.ledger.queries import balance_of
from inframind.lib.amounts import format_ifm
from inframind.lib.glyph import glyph_svg
from marketplace.catalog.manifest import TASKS
from marketplace.mesh.models import Placement
from marketplace.storefront.charts import bars_svg, columns_svg, sparkline_svg
from marketplace.storefront.icons import icon_svg
from marketplace.storefront.markdown import markdown_html
from marketplace.storefront.readable import readable_json

register = template.Library()
SHORT_DECIMALS = 4
PLAIN_DECIMALS = 6

BADGES = {
    "schema-validated": (
        "braces",
        "Schema validated",
        "Schema",
        "Every output of the verification met its schema",
    ),
    "hash-verified": (
        "hash",
        "Hash verified",
        "Hash",
        "The stored bytes hash to the published CID",
    ),
    "agent-compatible": (
        "chain",
        "Agent compatible",
        "Agent",
        "Answers are structured and can be chained",
    ),
    "privacy-ready": (
        "shield",
        "Privacy ready",
        "Private",
        "A node offers the private runtime that it declares",
    ),
}
LIFECYCLES = {
    "pending": ("Pending", "Registered, not verified yet"),
    "active": ("Active", "Passed its schema checks, package verified"),
    "popular": ("Popular", "High usage and uptime, kept loaded on nodes"),
    "deprecated": ("Deprecated", "Replaced by a newer version"),
    "delisted": ("Delisted", "Taken off the lists; a direct call still works"),
}


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """A decorative icon by name, `size` CSS pixels square."""
    return mark_safe(icon_svg(name, size_px=size))  # noqa: S308


# A glyph depends on its seed alone, and a page draws the same few again and again.
_drawn = lru_cache(maxsize=4096)(glyph_svg)


@register.simple_tag
def glyph(seed: str, size: int = 40, label: str = "") -> SafeString:
    """The mesh drawn from a CID or an address, `size` CSS pixels square; decorative unlabelled."""
    drawing = mark_safe(_drawn(seed, size_px=size, label=label))  # noqa: S308
    hidden = "" if label else mark_safe(' aria-hidden="true"')
    return format_html('<span class="glyph-frame"{}>{}</span>', hidden, drawing)


@register.filter
def ifm(base_units: int | Decimal | None, form: str = "") -> SafeString | str:
    """Base units as `0.25 IFM`, exact on hover and in `data-base-units`.

    `form`: "" is a price, where zero reads `free`; "sum" says `0 IFM`; "change" has its sign;
    "short" is a sum of at most four decimals, the rest cut off, never more than there is. The
    decimals of a sum beyond the sixth are set small, and are there.
    """
    if base_units is None:
        return ""
    whole = int(base_units)
    if whole == 0 and not form:
        return mark_safe('<span class="amount" data-base-units="0">free</span>')
    number, _, unit = format_ifm(abs(whole)).partition(" ")
    whole_part, point, decimals = number.partition(".")
    if form == "short":
        decimals = decimals[:SHORT_DECIMALS].rstrip("0")
        point = "." if decimals else ""
    shown: SafeString | str = f"{whole_part}{point}{decimals}"
    if form and len(decimals) > PLAIN_DECIMALS:
        head, tail = decimals[:PLAIN_DECIMALS], decimals[PLAIN_DECIMALS:]
        shown = format_html('{}.{}<span class="tail">{}</span>', whole_part, head, tail)
    sign = "\u2212" if whole < 0 else "+" if whole > 0 and form == "change" else ""
    return format_html(
        '<span class="amount" data-base-units="{}" title="{} base units">{}{}'
        '<span class="unit"> {}</span></span>',
        whole,
        whole,
        sign,
        shown,
        unit,
    )


@register.simple_tag(takes_context=True)
def own_balance(context: template.Context) -> int | None:
    """What the wallet that is signed in has, in base units; None for a stranger."""
    request = context.get("request")
    if request is None or not request.user.is_authenticated:
        return None
    # The header and the sheet of a phone both say it.
    if not hasattr(request, "own_balance"):
        request.own_balance = balance_of(str(request.user.pk)).balance_base_units
    found: int = request.own_balance
    return found


@register.filter
def shorten(value: str, keep: int = 6) -> str:
    """A long identifier without its middle: the first `keep` + 2 and last `keep` characters."""
    return value if len(value) <= 2 * keep + 5 else f"{value[: keep + 2]}…{value[-keep:]}"


def age_words(moment: datetime.datetime, now: datetime.datetime) -> str:
    """The distance in words, largest unit only: `4 min ago`, `in 3 d`.

    What is past is rounded down, what comes to the nearest unit: a fresh 24 h reads `in 24 h`.
    """
    seconds = (now - moment).total_seconds()
    distance = abs(seconds)
    for size, word in ((86_400 * 365, "y"), (86_400, "d"), (3_600, "h"), (60, "min")):
        if distance >= size:
            if seconds > 0:
                return f"{int(distance // size)} {word} ago"
            return f"in {int(distance / size + 0.5)} {word}"
    return "just now" if seconds >= 0 else "in under 1 min"


@register.filter
def age(moment: datetime.datetime | None, form: str = "") -> SafeString | str:
    """A `<time>` reading `4 min ago` (`form` "short": `4 min`), exact on hover; empty for None."""
    if moment is None:
        return ""
    exact = moment.astimezone(datetime.UTC)
    words = age_words(moment, timezone.now())
    return format_html(
        '<time class="age" datetime="{}" title="{}">{}</time>',
        _machine_readable(exact),
        exact.strftime("%Y-%m-%d %H:%M:%S UTC"),
        words.removesuffix(" ago").replace("just now", "now") if form == "short" else words,
    )


def _machine_readable(exact: datetime.datetime) -> str:
    return exact.isoformat(timespec="seconds").replace("+00:00", "Z")


@register.filter
def moment(value: datetime.datetime | None) -> SafeString | str:
    """A `<time>` with date and minute in UTC; empty for None."""
    if value is None:
        return ""
    exact = value.astimezone(datetime.UTC)
    return format_html(
        '<time datetime="{}">{}</time>',
        _machine_readable(exact),
        exact.strftime("%Y-%m-%d %H:%M UTC"),
    )


@register.filter
def clock(value: datetime.datetime | None) -> SafeString | str:
    """A `<time>` with the second of the day in UTC, whole on hover; empty for None."""
    if value is None:
        return ""
    exact = value.astimezone(datetime.UTC)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        _machine_readable(exact),
        exact.strftime("%Y-%m-%d %H:%M:%S UTC"),
        exact.strftime("%H:%M:%S"),
    )


@register.filter
def milliseconds(value: float | None) -> SafeString | str:
    """A latency with a readable unit (`0.8 ms`, `41 ms`, `1.2 s`); empty for None.

    A whole number was measured in whole milliseconds: `3 ms`, and `<1 ms` for none.
    """
    if value is None:
        return ""
    number, unit = (
        (f"{value / 1000:.1f}", "s")
        if value >= 1000
        else (f"{value:.0f}", "ms")
        if value >= 10
        else ("<1" if value == 0 else str(value), "ms")
        if isinstance(value, int)
        else (f"{value:.1f}", "ms")
    )
    return format_html('{}<span class="unit">{}</span>', number, unit)


@register.filter
def percent(share: float | None) -> SafeString | str:
    """A share from 0 to 1 as a percentage, rounded down: 99.96 % never reads 100 %."""
    if share is None:
        return ""
    tenths = math.floor(share * 1000 + 1e-9)
    text = str(tenths // 10) if tenths % 10 == 0 else f"{tenths / 10:.1f}"
    return format_html('{}<span class="unit">%</span>', text)


@register.filter
def basis_points(points: int) -> SafeString | str:
    """A share in basis points as an exact percentage: 1250 reads 12.5 %."""
    text = f"{points / 100:.2f}".rstrip("0").rstrip(".")
    return format_html('{}<span class="unit">%</span>', text)


@register.filter
def loaded(placements: Iterable[Placement]) -> list[Placement]:
    """The placements that are ready to serve."""
    return [each for each in placements if each.state == Placement.State.READY]


@register.filter
def grouped(value: int | None) -> str:
    """A count with thin spaces between thousands; empty for None."""
    return "" if value is None else f"{value:,}".replace(",", "\u2009")


@register.filter
def data_size(size_bytes: int | None) -> str:
    """A size in the largest binary unit that keeps it above one; empty for None."""
    if size_bytes is None:
        return ""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@register.filter
def task_word(task: str) -> str:
    """A task as the facets name it."""
    return TASKS.get(task, task.replace("-", " ").capitalize())


@register.filter
def memory_words(quantity: str) -> str:
    """A memory quantity of a manifest, `128Mi`, as it is read: `128 MiB`."""
    number = quantity.rstrip("KMGTPEi")
    suffix = quantity[len(number) :]
    return f"{number} {suffix}B" if suffix else f"{quantity} B"


@register.filter
def json_text(document: object) -> str:
    """A JSON document as indented text, keys in the order given."""
    return readable_json(document)


@register.filter
def json_line(document: object) -> str:
    """A JSON document on one line."""
    return json.dumps(document, ensure_ascii=False)


@register.filter
def render_markdown(text: str) -> SafeString:
    """A publisher's Markdown as safe HTML."""
    return mark_safe(markdown_html(text))  # noqa: S308


@register.simple_tag
def sparkline(
    values: Sequence[float | None],
    label: str,
    width: int = 132,
    height: int = 36,
    minimum_points: int = 2,
) -> SafeString:
    """A line over time with its text equivalent; None is a gap."""
    drawing = sparkline_svg(
        values, label=label, width=width, height=height, minimum_points=minimum_points
    )
    return mark_safe(drawing)  # noqa: S308


@register.simple_tag
def columns(
    counts: Sequence[int],
    label: str,
    width: int = 132,
    height: int = 36,
    hints: Sequence[str] = (),
) -> SafeString:
    """A column per period for a count, with its text equivalent."""
    drawing = columns_svg(counts, label=label, width=width, height=height, hints=hints)
    return mark_safe(drawing)  # noqa: S308


@register.simple_tag
def bars(
    shares: Sequence[float | None],
    label: str,
    width: int = 264,
    height: int = 36,
    hints: Sequence[str] = (),
) -> SafeString:
    """A bar per period for a share between 0 and 1, with its text equivalent."""
    drawing = bars_svg(shares, label=label, width=width, height=height, hints=hints)
    return mark_safe(drawing)  # noqa: S308


@register.simple_tag(takes_context=True)
def current(context: template.Context, path: str, *, within: bool = False) -> SafeString:
    """`aria-current="page"` when the request is for `path` (`within`: or for a page below)."""
    request = context.get("request")
    here = request.path if request is not None else ""
    matches = here == path or (within and here.startswith(path.rstrip("/") + "/"))
    return mark_safe(' aria-current="page"' if matches else "")  # noqa: S308


@register.inclusion_tag("components/badge.html")
def badge(
    kind: str,
    granted_at: datetime.datetime | None = None,
    url: str = "",
    expired: bool = False,
    short: bool = False,
) -> Mapping[str, Any]:
    """A badge: icon, word, age, link to its evidence; hollow when expired; `short` words."""
    plain = kind.replace("-", " ").capitalize()
    icon_name, word, short_word, meaning = BADGES.get(kind, ("check", plain, plain, plain))
    return {
        "icon_name": icon_name,
        "word": short_word if short else word,
        "meaning": f"{word}: {meaning}",
        "granted_at": granted_at,
        "url": url,
        "expired": expired,
        "short": short,
    }


@register.inclusion_tag("components/lifecycle.html")
def lifecycle(stage: str, successor: str = "", successor_url: str = "") -> Mapping[str, Any]:
    """The lifecycle mark; a deprecated version names its successor."""
    word, meaning = LIFECYCLES.get(stage, (stage.capitalize(), ""))
    return {
        "stage": stage,
        "word": word,
        "meaning": meaning,
        "successor": successor,
        "successor_url": successor_url,
    }


@register.inclusion_tag("components/identifier.html")
def identifier(
    value: str, name: str = "value", url: str = "", glyph: bool = False
) -> Mapping[str, Any]:
    """An address, CID or hash shortened in the middle, whole in its title, with a copy button."""
    keep = 4 if glyph else 6
    return {"value": value, "name": name, "url": url, "with_glyph": glyph, "keep": keep}


@register.inclusion_tag("components/code_line.html")
def code_line(text: str, prompt: str = "", name: str = "command") -> Mapping[str, Any]:
    """One line of code with a copy button; the prompt is shown and not copied."""
    return {"text": text, "prompt": prompt, "name": name}


@register.inclusion_tag("components/code.html")
def code(text: str, title: str = "") -> Mapping[str, Any]:
    """A block of code under its title, with a copy button."""
    return {"text": text, "title": title}
