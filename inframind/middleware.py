"""Every request has an id: in ``X-Request-Id``, in the log, and on error pages. And a process
serves what it is there for."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from inframind.lib.problem import Problem, for_protocol
from inframind.problems import as_response

ACCEPTABLE_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}\Z")
_PROBE = re.compile(r"/(livez|readyz|metrics)\Z")
_CALL = re.compile(r"/(inference|v2)(/|\Z)")
_SERVES = {
    "gateway": "calls of models alone: /inference/v1 and /v2",
    "web": "pages and the API, and no calls of models",
}


class RequestIdMiddleware:
    """Take the caller's id where it is harmless, else make one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if ACCEPTABLE_REQUEST_ID.match(given) else uuid4().hex
        request.META["REQUEST_ID"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
        response.headers["X-Request-Id"] = request_id
        return response


class RoleMiddleware:
    """Answers 404 for what another process serves, by ``INFRAMIND_ROLE``, and says which."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        role = settings.INFRAMIND_ROLE
        if role != "all" and not _PROBE.match(request.path_info):
            calls = _CALL.match(request.path_info) is not None
            if calls != (role == "gateway"):
                problem = Problem(
                    "not-served-here",
                    f"This process serves {_SERVES[role]}.",
                    status=404,
                    remedy=f"Ask {settings.SITE_URL}{request.path_info[:200]}, where every address "
                    "is known.",
                )
                if request.path_info.startswith("/v2"):
                    problem = for_protocol(problem)
                return as_response(problem, request_id=request.META.get("REQUEST_ID", ""))
        return self.get_response(request)
