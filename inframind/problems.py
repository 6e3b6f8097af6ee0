"""RFC 9457 answers: every refusal of the API, ours or the framework's, in one form."""

from __future__ import annotations

from typing import Any

import orjson
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions

from inframind.lib.problem import CONTENT_TYPE, Problem, Violation, for_protocol, not_found

_PROTOCOL_ADDRESSES = (
    "Of the Open Inference Protocol these are served: /v2, /v2/health/live, /v2/health/ready, "
    "/v2/models/<name> and under it /ready, /config, /stats and /infer. Models are loaded and "
    "unloaded by the marketplace."
)


def as_response(problem: Problem, *, request_id: str = "") -> HttpResponse:
    """The answer itself, for fronts that do not run inside DRF's exception handling."""
    body = problem.as_document(instance=f"urn:request:{request_id}" if request_id else "")
    return HttpResponse(
        orjson.dumps(body),
        status=problem.status,
        content_type=CONTENT_TYPE,
        headers=problem.headers,
    )


def handle_exception(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's ``EXCEPTION_HANDLER``; anything unknown stays a 500 with its traceback in the log."""
    problem = translate(error)
    if problem is None:
        return None
    request = context.get("request")
    request_id = request.META.get("REQUEST_ID", "") if request is not None else ""
    # DRF finalises only its own class; a rendered HttpResponse passes through it untouched.
    return as_response(problem, request_id=request_id)


def translate(error: Exception) -> Problem | None:
    if isinstance(error, Problem):
        return error
    if isinstance(error, Http404):
        return not_found("such resource")
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return Problem("forbidden", "This is not yours to do.", status=403)
    if isinstance(error, exceptions.ValidationError):
        return Problem(
            "invalid-request",
            "The request has fields that cannot be used.",
            status=422,
            violations=tuple(_violations(error.detail, "")),
        )
    if isinstance(error, exceptions.Throttled):
        seconds = int(getattr(error, "wait", None) or 1)
        return Problem(
            "too-many-requests",
            "Too many requests.",
            status=429,
            retry_safe=True,
            retry_after_seconds=seconds,
        )
    if isinstance(error, exceptions.APIException):
        code = {
            400: "malformed-request",
            404: "not-found",
            405: "method-not-allowed",
            406: "not-acceptable",
            413: "too-large",
            415: "unsupported-media-type",
        }.get(error.status_code, "request-refused")
        headers = {}
        if error.status_code == 401:
            code = "unauthorized"
            headers["WWW-Authenticate"] = 'Bearer realm="inframind"'
        return Problem(code, str(error.detail), status=error.status_code, headers=headers)
    return None


def _violations(detail: Any, pointer: str) -> list[Violation]:
    if isinstance(detail, dict):
        return [
            v
            for key, value in detail.items()
            # What concerns the document as a whole is no field of that name.
            for v in _violations(
                value, pointer if key == "non_field_errors" else f"{pointer}/{key}"
            )
        ]
    if isinstance(detail, list):
        return [v for value in detail for v in _violations(value, pointer)]
    return [Violation(pointer, str(detail))]


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404 in the reader's form: JSON under the API's paths, a page elsewhere."""
    problem = not_found("page at this address")
    if request.path.startswith("/v2/"):
        problem = for_protocol(not_found("such address under /v2", _PROTOCOL_ADDRESSES))
    return _error(request, problem, "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    return _error(request, internal_error(), "500.html")


def internal_error() -> Problem:
    """The 500 of a request that met a fault of ours."""
    return Problem(
        "internal-error",
        "Something failed on our side; it is in our log under the request id.",
        status=500,
        remedy="Try again; if it stays, tell us the request id.",
    )


def _error(request: HttpRequest, problem: Problem, template: str) -> HttpResponse:
    from django.shortcuts import render

    request_id = request.META.get("REQUEST_ID", "")
    # A gateway has no pages, nor what they are drawn with.
    is_api = request.path.startswith(("/api/", "/inference/", "/v2/"))
    if is_api or settings.INFRAMIND_ROLE == "gateway":
        return as_response(problem, request_id=request_id)
    return render(
        request, template, {"problem": problem, "request_id": request_id}, status=problem.status
    )
