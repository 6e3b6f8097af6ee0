"""One form for every refusal."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v2/repository/index", "application/problem+json"),
        ("/inference/v2/a", "application/problem+json"),
        ("/nothing/here", "text/html; charset=utf-8"),
    ],
)
def test_an_address_that_is_none_is_answered_in_the_readers_form(
    db: None, path: str, kind: str
) -> None:
    answer = Client().post(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, kind)


def test_what_the_open_inference_protocol_has_and_we_have_not_is_said_as_its_clients_read_it(
    db: None,
) -> None:
    told = Client().post("/v2/repository/index").json()
    assert told["error"] == told["detail"] == "There is no such address under /v2."
    assert "/v2/models/<name>" in told["remedy"]
    assert "error" not in Client().post("/inference/v2/a").json()


def test_a_gateway_answers_without_a_page(db: None, settings: Any) -> None:
    settings.INFRAMIND_ROLE = "gateway"
    assert Client().get("/inference")["Content-Type"] == "application/problem+json"


def test_a_process_without_calls_says_so_in_the_protocols_form_too(db: None, settings: Any) -> None:
    settings.INFRAMIND_ROLE = "web"
    told = Client().get("/v2/health/live").json()
    assert (told["type"], told["error"]) == ("/problems/not-served-here", told["detail"])
    assert "error" not in Client().get("/inference/v1/a").json()


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
