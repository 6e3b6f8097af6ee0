"""The account's usage: calls and fees by day and model, a page and the overview's panel."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from inframind.identity.authority import permitted
from inframind.identity.pages import account_page, part, wants_part
from inframind.identity.queries import caller_of_wallet
from marketplace.gateway.usage import usage_of

_SPANS_DAYS: Final = (7, 30, 90)
_DEFAULT_DAYS: Final = 30


@permitted(GET="usage.read")
@require_safe
@account_page
def usage(request: HttpRequest) -> HttpResponse:
    """What the wallet has called and spent lately; ``?panel`` asks for the figures only."""
    asked = request.GET.get("days", "")
    days = next((each for each in _SPANS_DAYS if str(each) == asked), _DEFAULT_DAYS)
    found = usage_of(caller_of_wallet(str(request.user.pk)), days=days)
    context = {
        "usage": found,
        "days": days,
        "spans": _SPANS_DAYS,
        "calls": [tally.calls for _, tally in found.by_day],
        "hints": [f"{day:%Y-%m-%d}: {tally.calls} calls" for day, tally in found.by_day],
        "served_share": found.total.served / found.total.calls if found.total.calls else None,
    }
    if wants_part(request) and "panel" in request.GET:
        return render(request, "storefront/usage.html#panel", context)
    return part(request, "storefront/usage.html", context, tab="usage", title="Usage")
