"""The handlers of ``/inference/v1/<name>``: JSON in, JSON out, and what a GET tells."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Final

import orjson
from django.conf import settings

from inframind.identity.api import bearer_of
from inframind.lib.amounts import amount_document, parse_ifm
from inframind.lib.problem import Problem, Violation
from marketplace.gateway import admission, asking, events, explain, pipeline, resources, streaming
from marketplace.gateway.context import Context
from marketplace.gateway.wire import Answer, Request

_JSON: Final = "application/json"
_ADMITTING: Final = (admission.authenticate, admission.limit, admission.resolve)
_JSON_KIND: Final = re.compile(r"application/(?:[\w.-]+\+)?json")


async def call(request: Request, reference: str) -> Answer:
    """Runs the model on the document in the body. 401, 413, 415, 422 and what the stages raise."""
    if request.query and explain.asked_for(request.query):
        return await explain.explain(request, reference)
    bearer, budget = credentials(request)
    kind = request.headers.get("content-type", "")
    if kind != _JSON:
        require_json(kind)
    made_of = call_request(request, reference, bearer, budget)
    if events.asked_for(request.headers.get("accept", "")):
        return await streaming.call(replace(made_of, streamed=True), request.gone)
    made = await pipeline.call(made_of)
    return Answer(made.status, made.document, made.headers)


async def describe(request: Request, reference: str) -> Answer:
    """How the model is called, its price and its schemas. 401, 404, 410."""
    if request.query and explain.asked_for(request.query):
        return await explain.explain(request, reference)
    found = await asking.version_seen(reference, await asking.caller_of(request))
    document = {
        "model": f"{found.name}@{found.number}",
        "call": f"POST {settings.SITE_URL}/inference/v1/{reference}",
        "content_type": _JSON,
        "accept": events.KIND if found.streaming else _JSON,
        "token_required": found.auth_required or found.fee_base_units > 0,
        "price": amount_document(found.fee_base_units),
        "input_schema": found.input_schema,
        "output_schema": found.output_schema,
    }
    return Answer(200, orjson.dumps(document), {"Content-Type": _JSON})


def credentials(request: Request) -> tuple[str | None, int | None]:
    """The token that came with a call, unchecked, and its budget in base units. 401, 422."""
    headers = request.headers
    budget = headers.get("inframind-budget")
    return (
        bearer_of(headers.get("authorization", "")),
        None if budget is None else _budget(budget),
    )


def call_request(
    request: Request, reference: str, bearer: str | None, budget_base_units: int | None
) -> pipeline.CallRequest:
    """The call that a request makes."""
    name, _, number = reference.partition("@")
    return pipeline.CallRequest(
        request.call_id,
        name,
        number or None,
        request.body,
        budget_base_units,
        request.remote_address,
        settings.CALL_DEADLINE_SECONDS,
        bearer,
        request.caller,
        request.headers.get("idempotency-key"),
    )


async def admitted(request: pipeline.CallRequest) -> Context:
    """The context of a caller who may call the version, with nothing counted or set aside yet.

    Raises the ``Problem`` that says no; a name that was guessed wrong counts against the guesser.
    """
    context = Context(request, await resources.here())
    problem = await pipeline.run(context, _ADMITTING)
    if problem is not None:
        raise await admission.over_the_limit(context) or problem
    return context


def require_json(given: str) -> None:
    """Raises a 415 ``Problem`` for a content type that is not JSON's."""
    kind = given.partition(";")[0].strip().lower()
    if _JSON_KIND.fullmatch(kind) is None:
        raise Problem(
            "unsupported-media-type",
            f"The body is {kind or 'of no type'}, and application/json is read here.",
            status=415,
            remedy="Send the document with the header Content-Type: application/json.",
        )


@lru_cache(maxsize=1024)
def _budget(text: str) -> int:
    try:
        return parse_ifm(text)
    except ValueError as error:
        raise Problem(
            "invalid-budget",
            f"Inframind-Budget cannot be read: {error}",
            status=422,
            violations=(Violation("", "The header Inframind-Budget is not an amount."),),
            remedy='Write it like "2.5 IFM".',
        ) from None
