"""A refusal of the domain as a page: what happened, the remedy, the charge, the request id."""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, ParamSpec, cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from inframind.lib.problem import Problem

Parameters = ParamSpec("Parameters")
View = Callable[Concatenate[HttpRequest, Parameters], HttpResponse]

TEMPLATES = {403: "403.html", 404: "404.html", 503: "503.html"}


def viewer_of(request: HttpRequest) -> str | None:
    """The address of the wallet that is signed in, if any."""
    return str(request.user.pk) if request.user.is_authenticated else None


def problem_page(request: HttpRequest, problem: Problem) -> HttpResponse:
    """The error page for a problem, with its status and headers."""
    response = render(
        request,
        TEMPLATES.get(problem.status, "fault.html"),
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
