"""The account's usage: by day, model and token, call by call, and as a table to take along."""

from __future__ import annotations

import csv
from typing import Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from inframind.identity.authority import permitted
from inframind.identity.pages import account_page, part, wants_part
from inframind.identity.queries import caller_of_wallet
from inframind.lib.amounts import format_ifm
from marketplace.gateway.usage import UsedToken, recent_calls, usage_of, usage_rows

_SPANS_DAYS: Final = (7, 30, 90)
_DEFAULT_DAYS: Final = 30
_CSV_DAYS_MAX: Final = 366
_CSV_HEAD: Final = ("day", "model", "token", "calls", "served", "fees_ifm", "fees_base_units")
# A spreadsheet takes a text that begins so for a formula, and a token's name is anybody's words.
_FORMULA_STARTS: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@permitted(GET="usage.read")
@require_safe
@account_page
def usage(request: HttpRequest) -> HttpResponse:
    """What the wallet has called and spent lately; ``?panel`` asks for the figures only."""
    days = next((each for each in _SPANS_DAYS if str(each) == request.GET.get("days")), None)
    days = days or _DEFAULT_DAYS
    caller = caller_of_wallet(str(request.user.pk))
    found = usage_of(caller, days=days)
    context = {
        "usage": found,
        "days": days,
        "spans": _SPANS_DAYS,
        "calls": [tally.calls for _, tally in found.by_day],
        "hints": [
            f"{day:%Y-%m-%d}: {tally.calls} calls, {format_ifm(tally.fees_base_units)}"
            for day, tally in found.by_day
        ],
        "served_share": found.total.served / found.total.calls if found.total.calls else None,
    }
    if wants_part(request) and "panel" in request.GET:
        return render(request, "storefront/usage.html#panel", context)
    before = request.GET.get("before", "")
    recent = recent_calls(caller, before=before)
    context["recent"] = recent.calls
    context["is_older"] = bool(before)
    context["newest_url"] = f"{request.path}?{urlencode({'days': days})}#calls"
    if recent.next:
        query = urlencode({"days": days, "before": recent.next})
        context["older_url"] = f"{request.path}?{query}#calls"
    return part(request, "storefront/usage.html", context, tab="usage", title="Usage")


@permitted(GET="usage.read")
@require_safe
@account_page
def usage_csv(request: HttpRequest) -> HttpResponse:
    """The usage by day, model and token as a table, of ``?days=`` days, 366 at most."""
    text = request.GET.get("days", "")
    asked = int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else _DEFAULT_DAYS
    days = min(max(asked, 1), _CSV_DAYS_MAX)
    rows = usage_rows(caller_of_wallet(str(request.user.pk)), days=days)

    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="usage-{days}-days.csv"'
    writer = csv.writer(answer)
    writer.writerow(_CSV_HEAD)
    for each in rows:
        fees = each.tally.fees_base_units
        writer.writerow(
            (
                each.day.isoformat(),
                _plain(each.model),
                _plain(_words_of(each.token)),
                each.tally.calls,
                each.tally.served,
                format_ifm(fees).removesuffix(" IFM"),
                fees,
            )
        )
    return answer


def _words_of(token: UsedToken) -> str:
    if token.id is None:
        return "signed in on a page"
    return token.name if token.name is not None else f"token {token.id}"


def _plain(text: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would compute."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
