"""A refusal of the domain as a page: what happened, the remedy, the charge, the request id."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Concatenate, Final, ParamSpec, cast

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from inframind.identity.caller import Caller
from inframind.identity.pages import problem_page
from inframind.identity.queries import caller_of_wallet
from inframind.lib.problem import Problem

ROWS_A_PAGE: Final = 50
Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponse]


def viewer_of(request: HttpRequest) -> Caller | None:
    """The wallet that is signed in, if any."""
    return caller_of_wallet(str(request.user.pk)) if request.user.is_authenticated else None


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


def not_an_act() -> Problem:
    """The refusal of a form that names nothing its page does."""
    return Problem(
        "invalid-request",
        "This form asks for nothing that the page does.",
        status=422,
        remedy="Load the page again, and use one of its buttons.",
    )


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
