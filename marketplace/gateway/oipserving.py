"""The handlers of ``/v2``: the Open Inference Protocol for the same models and tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Any, Final

import orjson
import psycopg
from django.db import Error as DatabaseError
from psycopg_pool import PoolTimeout

from inframind.identity.api import bearer_of
from inframind.identity.caller import Caller
from inframind.lib.problem import Problem
from marketplace.catalog.models import Version
from marketplace.catalog.queries import Servable, get_model, versions_of
from marketplace.gateway import admission, asking, calling, oip, pipeline, queries
from marketplace.gateway.oiptensors import described
from marketplace.gateway.wire import Answer, Handler, Request
from marketplace.mesh.asyncdb import in_thread
from marketplace.mesh.queries import ready_node_count
from marketplace.mesh.tensors import Spec, document_specs

NAME: Final = "inframind"
STATISTICS_SECONDS: Final = 3_600
_LOADING_RETRY_SECONDS: Final = 5
_JSON: Final = "application/json"


async def server(request: Request, reference: str) -> Answer:
    """Who answers here, and which parts of the protocol are spoken."""
    return _json(
        {"name": NAME, "version": installed_version("inframind"), "extensions": oip.EXTENSIONS}
    )


async def live(request: Request, reference: str) -> Answer:
    """That the process runs."""
    return _json({"live": True})


async def ready(request: Request, reference: str) -> Answer:
    """200 when the database answers and a node is ready, else 503."""
    try:
        found = await in_thread(ready_node_count) > 0
    except DatabaseError:
        found = False
    if not found:
        raise Problem(
            "not-ready",
            "The database does not answer, or no node is ready.",
            status=503,
            remedy="Try again as Retry-After says.",
            retry_safe=True,
            retry_after_seconds=_LOADING_RETRY_SECONDS,
        )
    return _json({"ready": True})


async def metadata(request: Request, reference: str) -> Answer:
    """A version's tensors, and the versions that can be called. 401, 404, 409, 410."""
    caller, found = await _seen(request, reference)
    inputs, outputs = _tensors(found)
    largest = found.max_batch_size
    return _json(
        {
            "name": found.name,
            "versions": await in_thread(_callable_numbers, found.name, caller),
            "version": found.number,
            "platform": _platform(found),
            "inputs": [described(spec, max_batch_size=largest) for spec in inputs],
            "outputs": [described(spec, max_batch_size=largest) for spec in outputs],
        }
    )


async def config(request: Request, reference: str) -> Answer:
    """What of a Triton model configuration is the version's, not a node's. 401, 404, 409, 410."""
    _, found = await _seen(request, reference)
    inputs, outputs = _tensors(found)
    return _json(
        {
            "name": found.name,
            "platform": _platform(found),
            "max_batch_size": found.max_batch_size,
            "input": [oip.configured(spec) for spec in inputs],
            "output": [oip.configured(spec) for spec in outputs],
            "model_transaction_policy": {"decoupled": found.streaming},
        }
    )


async def statistics(request: Request, reference: str) -> Answer:
    """The version's calls of the last hour, over every front, as Triton would count them. 401,
    404, 409, 410."""
    _, found = await _seen(request, reference)
    tally = await in_thread(queries.tally_of_version, found.version_id, STATISTICS_SECONDS)
    none = {"count": 0, "ns": 0}
    return _json(
        {
            "model_stats": [
                {
                    "name": found.name,
                    "version": found.number,
                    "last_inference": tally.last_ms,
                    "inference_count": tally.served,
                    "execution_count": tally.served,
                    "inference_stats": {
                        "success": {"count": tally.served, "ns": tally.served_us * 1_000},
                        "fail": {"count": tally.failed, "ns": tally.failed_us * 1_000},
                        "queue": none,
                        "compute_input": none,
                        "compute_infer": {"count": tally.served, "ns": tally.node_us * 1_000},
                        "compute_output": none,
                    },
                    "batch_stats": [],
                }
            ]
        }
    )


async def model_ready(request: Request, reference: str) -> Answer:
    """Whether a node holds the version now; if none does, one begins to load it, as for a call.

    Raises ``Problem``: 503 ``model-loading``, and what ends a call before it runs.
    """
    call = await calling.admitted(calling.call_request(request, reference, _bearer(request), None))
    await admission.count(call)
    await admission.within_limits(call)
    version, router = call.version, call.resources.router
    paid = version.fee_base_units > 0
    try:
        view = await router.view(version.version_id, paid=paid)
    except (psycopg.OperationalError, PoolTimeout):
        raise _not_ready("The database does not answer.") from None
    if any(not each.why_not for each in view.candidates):
        return _json({"name": version.name, "version": version.number, "ready": True})
    if not view.candidates:
        router.begin_placing(version.version_id)
    raise _not_ready("No node is ready to run the model yet; asking has one load it.")


async def infer(request: Request, reference: str) -> Answer:
    """One inference, tensors in, tensors out. 401, 413, 415, 422 and what the stages raise."""
    bearer, budget = calling.credentials(request)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        raise Problem(
            "unsupported-media-type",
            f"The body is compressed ({encoding[:40]}), and is read as it is here.",
            status=415,
            remedy="Send it without Content-Encoding, which for tensors is faster besides.",
        )
    made = await pipeline.call(
        replace(
            calling.call_request(request, reference, bearer, budget),
            tensors=True,
            header_length=request.headers.get("inference-header-content-length"),
        )
    )
    return Answer(made.status, made.document, made.headers)


_MODEL: Final = ("/models/{name}", "/models/{name}/versions/{version}")
ADDRESSES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("", "GET", server),
    ("/health/live", "GET", live),
    ("/health/ready", "GET", ready),
    *((path, "GET", metadata) for path in _MODEL),
    *((f"{path}/ready", "GET", model_ready) for path in _MODEL),
    *((f"{path}/config", "GET", config) for path in _MODEL),
    *((f"{path}/stats", "GET", statistics) for path in _MODEL),
    *((f"{path}/infer", "POST", infer) for path in _MODEL),
)
"""Path under ``/v2``, method and handler of every address."""


async def _seen(request: Request, reference: str) -> tuple[Caller | None, Servable]:
    caller = await asking.caller_of(request)
    return caller, await asking.version_seen(reference, caller)


def _bearer(request: Request) -> str | None:
    return bearer_of(request.headers.get("authorization", ""))


def _tensors(version: Servable) -> tuple[tuple[Spec, ...], tuple[Spec, ...]]:
    tensors = version.tensors
    if tensors is None:
        return document_specs(), document_specs()
    return tensors.inputs, tensors.outputs


def _callable_numbers(name: str, caller: Caller | None) -> list[str]:
    hidden, now = (Version.State.PENDING, Version.State.DELISTED), datetime.now(UTC)
    return [
        each.number
        for each in versions_of(get_model(name, viewer=caller))
        if each.state not in hidden and (each.expires_at is None or each.expires_at > now)
    ]


def _platform(version: Servable) -> str:
    return {"onnx": "onnxruntime_onnx"}.get(version.runtime, version.runtime)


def _not_ready(detail: str) -> Problem:
    return Problem(
        "model-loading",
        detail,
        status=503,
        remedy="Ask again as Retry-After says.",
        retry_safe=True,
        retry_after_seconds=_LOADING_RETRY_SECONDS,
    )


def _json(document: Any) -> Answer:
    return Answer(200, orjson.dumps(document), {"Content-Type": _JSON})
