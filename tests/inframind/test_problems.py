"""One form for every refusal."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.test import Client
from rest_framework import exceptions

from inframind.lib.problem import Problem, Violation
from inframind.problems import as_response, translate


def test_a_problem_says_what_a_caller_of_a_paid_service_needs() -> None:
    problem = Problem(
        "no-node",
        "No node answers.",
        status=503,
        remedy="Try again.",
        retry_safe=True,
        retry_after_seconds=2,
        violations=(Violation("/a", "is wrong", "mend it", 3),),
    )
    assert problem.as_document(instance="urn:x") == {
        "type": "/problems/no-node",
        "title": "No node",
        "status": 503,
        "detail": "No node answers.",
        "charged": False,
        "retry_safe": True,
        "remedy": "Try again.",
        "violations": [{"pointer": "/a", "detail": "is wrong", "remedy": "mend it", "line": 3}],
        "retry_after_seconds": 2,
        "instance": "urn:x",
    }
    answer = as_response(problem, request_id="abc")
    assert answer["Retry-After"] == "2"
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Http404(), 404, "not-found"),
        (PermissionDenied(), 403, "forbidden"),
        (exceptions.MethodNotAllowed("PUT"), 405, "method-not-allowed"),
        (exceptions.UnsupportedMediaType("text/plain"), 415, "unsupported-media-type"),
        (exceptions.NotAuthenticated(), 401, "unauthorized"),
        (exceptions.Throttled(wait=7), 429, "too-many-requests"),
        (exceptions.ParseError(), 400, "malformed-request"),
    ],
)
def test_the_frameworks_own_refusals_take_the_same_form(
    error: Exception, status: int, code: str
) -> None:
    problem = translate(error)
    assert problem is not None
    assert (problem.status, problem.code) == (status, code)


def test_field_errors_become_violations_with_pointers() -> None:
    problem = translate(exceptions.ValidationError({"a": {"b": ["Too short."]}, "c": ["Missing."]}))
    assert problem is not None
    assert [(each.pointer, each.detail) for each in problem.violations] == [
        ("/a/b", "Too short."),
        ("/c", "Missing."),
    ]


def test_an_unknown_error_is_not_dressed_up() -> None:
    assert translate(RuntimeError("boom")) is None


@pytest.mark.django_db
def test_an_unknown_address_is_a_page_to_people_and_a_document_to_programs() -> None:
    page = Client().get("/no/such/page")
    assert page.status_code == 404
    assert page["Content-Type"].startswith("text/html")
    assert page["X-Request-Id"] in page.content.decode()
    document = Client().get("/api/v1/no-such-thing")
    assert document.status_code == 404
    assert document["Content-Type"] == "application/problem+json"
    assert document.json()["instance"] == f"urn:request:{document['X-Request-Id']}"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "kept"),
    [("abcdef12-34", True), ("short", False), ("a" * 65, False), ("x\ty z!!!!!", False)],
)
def test_a_callers_request_id_is_kept_where_it_is_harmless(given: str, kept: bool) -> None:
    answer = Client().get("/livez", headers={"X-Request-Id": given})
    assert (answer["X-Request-Id"] == given) is kept
