"""The description of the API against the API: nothing that it allows breaks the server."""

from __future__ import annotations

from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from tests.journeys.market import CALLER, Market

# Wrong input takes longer to make than to send.
EXAMPLES_EACH = {GenerationMode.POSITIVE: 10, GenerationMode.NEGATIVE: 5}
# What the description cannot know: names that exist, so that some cases get past the 404.
KNOWN = {"name": "filetype-v1", "version": "1.0.0", "slug": "agent-compatible"}
CHECKED = ["not_a_server_error", "content_type_conformance", "response_schema_conformance"]


@pytest.fixture(scope="module")
def description(market: Market) -> dict[str, Any]:
    with market.http() as http:
        document: dict[str, Any] = http.get("/api/schema/", params={"format": "json"}).json()
    return document


@pytest.fixture(scope="module")
def operations(
    market: Market, description: dict[str, Any]
) -> list[APIOperation[Any, Any, Any, Any]]:
    config = SchemathesisConfig.from_dict({"base-url": market.url})
    schema = schemathesis.openapi.from_dict(description, config=config)
    found = []
    for each in schema.get_all_operations():
        assert isinstance(each, Ok), each
        found.append(each.ok())
    return found


def test_the_description_is_openapi_3_1_and_names_every_address(
    description: dict[str, Any],
) -> None:
    assert description["openapi"].startswith("3.1")
    assert {
        "/inference/v1/{reference}",
        "/inference/v1/{reference}/batch",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        *(
            f"/v2/models/{{name}}{version}{rest}"
            for version in ("", "/versions/{version}")
            for rest in ("", "/ready", "/config", "/stats", "/infer")
        ),
        "/api/v1/models",
        "/api/v1/models/{name}",
        "/api/v1/models/{name}/diagnostics",
        "/api/v1/models/{name}/versions/{version}",
        "/api/v1/models/{name}/versions/{version}/package",
        "/api/v1/models/{name}/versions/{version}/verification",
        "/api/v1/collections",
        "/api/v1/collections/{slug}",
        "/api/v1/nodes",
        "/api/v1/receipts/{call_id}",
    } <= set(description["paths"])


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_nothing_that_is_described_breaks_the_server(
    market: Market, operations: list[APIOperation[Any, Any, Any, Any]], mode: GenerationMode
) -> None:
    token = market.token(CALLER, "invoke", "publish")
    failures = []
    for operation in operations:
        try:
            _walk(operation, mode, token)
        except Unsatisfiable:
            # Takes nothing that could be wrong.
            assert mode is GenerationMode.NEGATIVE
        except (AssertionError, FailureGroup) as error:
            failures.append(f"{operation.label}: {error}")
    assert failures == []


def _walk(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, token: str) -> None:
    names = {each.name for each in operation.path_parameters}
    known = {name: value for name, value in KNOWN.items() if name in names}
    if "reference" in names:
        known = {"reference": "filetype-v1@1.0.0"}
    anywhere = operation.as_strategy(generation_mode=mode)
    strategy = anywhere
    if known and names == set(known):
        strategy = anywhere | operation.as_strategy(generation_mode=mode, path_parameters=known)

    @settings(
        max_examples=EXAMPLES_EACH[mode],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, signed=st.booleans())
    def walk(case: Case[Any], signed: bool) -> None:
        headers = {"Authorization": f"Bearer {token}"} if signed else {}
        answer = case.call(headers=headers)
        if answer.status_code >= 400:
            told = f"{case.as_curl_command()}\n{answer.status_code} {answer.text[:500]}"
            assert answer.status_code < 500, told
            assert answer.headers["content-type"] == ["application/problem+json"], told
            problem = answer.json()
            assert problem["type"].startswith("/problems/"), told
            assert problem["status"] == answer.status_code, told
            assert problem["charged"] is False, told
            assert isinstance(problem["retry_safe"], bool), told
        else:
            case.validate_response(answer, checks=cast(Any, CHECKS.get_by_names(CHECKED)))

    walk()
