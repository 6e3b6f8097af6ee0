"""What pages share: refusals as pages, a page or its part, numbered rows, the account's tabs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Concatenate, Final, ParamSpec, cast
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django_htmx.http import HttpResponseClientRedirect

from inframind.identity.models import Wallet
from inframind.identity.views import own_path
from inframind.lib.problem import Problem

Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponse]

ROWS_A_PAGE: Final = 50
_TEMPLATES: Final = {403: "403.html", 404: "404.html", 503: "503.html"}
# Those of upper apps are offered where they answer.
_TABS: Final = (
    ("overview", "Overview", "/account"),
    ("balance", "Balance", "/account/balance"),
    ("earnings", "Earnings", "/account/earnings"),
    ("tokens", "Tokens", "/account/tokens"),
    ("sessions", "Sessions", "/account/sessions"),
    ("groups", "Groups", "/account/groups"),
    ("asked", "Access asked for", "/account/asked"),
    ("usage", "Usage", "/account/usage"),
    ("second-factor", "Second factor", "/account/second-factor"),
)


@dataclass(frozen=True)
class Tab:
    key: str
    word: str
    url: str
    current: bool
    count: int | None = None


def account_tabs(current: str) -> list[Tab]:
    """The account's tabs, for every page below /account."""
    return [Tab(key, word, url, key == current) for key, word, url in _TABS if answers(url)]


def answers(path: str) -> bool:
    """Whether an installed app has a page at this path."""
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def wants_part(request: HttpRequest) -> bool:
    htmx: Any = getattr(request, "htmx", None)
    return bool(htmx) and not htmx.history_restore_request


def page_or_part(
    request: HttpRequest, template: str, part: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """The whole page, or for an HTMX request the named part of the same template."""
    is_part = wants_part(request)
    response = render(
        request,
        f"{template}#{part}" if is_part else template,
        {**context, "is_part": is_part},
        status=status,
    )
    # Without it a browser's "back" could show the part as if it were the page.
    patch_vary_headers(response, ["HX-Request"])
    return response


def part(
    request: HttpRequest,
    template: str,
    context: dict[str, Any],
    *,
    tab: str,
    title: str,
    status: int = 200,
) -> HttpResponse:
    """A page of the account, or for an HTMX request its ``body`` partial of the same template."""
    shown = {**context, "tabs": account_tabs(tab), "title": title}
    return page_or_part(request, template, "body", shown, status=status)


def problem_page(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The error page for a problem, with its status and headers."""
    response = render(
        request,
        _TEMPLATES.get(problem.status, "fault.html"),
        {"problem": problem, "request_id": request.META.get("REQUEST_ID", "")},
        status=problem.status,
    )
    for name, value in problem.headers.items():
        response.headers[name] = value
    return response


def page_view(view: View[Parameters]) -> View[Parameters]:
    """Let a view raise `Problem`: the reader gets the error page instead."""

    def answered(
        request: HttpRequest, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except Problem as problem:
            return problem_page(request, problem)

    return cast("View[Parameters]", update_wrapper(answered, view))


def account_page(view: View[Parameters]) -> View[Parameters]:
    """A page of the account: a stranger is sent to sign in and comes back, a ``Problem`` is a page,
    and no cache keeps what it shows."""

    def answered(
        request: HttpRequest, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> HttpResponse:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        try:
            return view(request, *args, **kwargs)
        except Problem as problem:
            return problem_page(request, problem)

    return cast("View[Parameters]", never_cache(update_wrapper(answered, view)))


def not_an_act() -> Problem:
    """The refusal of a form that names nothing its page does."""
    return Problem(
        "invalid-request",
        "This form asks for nothing that the page does.",
        status=422,
        remedy="Load the page again, and use one of its buttons.",
    )


def paged(request: HttpRequest, rows: QuerySet[Any]) -> dict[str, Any]:
    """The rows of the page that ``?page=`` names, how many there are, and the ways to others."""
    page = Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()

    def address(number: int) -> str:
        query["page"] = str(number)
        return f"{request.path}?{query.urlencode()}"

    return {
        "rows": page.object_list,
        "total": page.paginator.count,
        "previous_url": address(page.number - 1) if page.has_previous() else "",
        "position": f"Page {page.number} of {page.paginator.num_pages}",
        "next_url": address(page.number + 1) if page.has_next() else "",
    }


def wallet_of(request: HttpRequest) -> Wallet:
    """Who is signed in, as stored now. Only on an ``account_page``."""
    wallet = Wallet.objects.filter(pk=request.user.pk).first()
    if wallet is None:
        raise Http404
    return wallet


def next_of(request: HttpRequest, default: str) -> str:
    """Where ``next`` leads, if that is a page of ours."""
    return own_path(request.POST.get("next") or request.GET.get("next", ""), otherwise=default)


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    # A form that was sent is not sent again by coming back: its page is.
    target = request.get_full_path()
    if request.method not in ("GET", "HEAD"):
        target = _path_of(request.headers.get("Referer", "")) or "/account"
    address = f"{settings.LOGIN_URL}?{urlencode({'next': target})}"
    if wants_part(request):
        return HttpResponseClientRedirect(address)
    return redirect(address)


def _path_of(address: str) -> str:
    try:
        return urlsplit(address).path
    except ValueError:
        return ""
