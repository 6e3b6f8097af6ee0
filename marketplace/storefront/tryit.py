"""A call made from the model's page: form to document, the gateway's pipeline, answer to words."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest

from inframind.identity.authority import admit, require
from inframind.identity.caller import Caller
from inframind.identity.queries import authenticate, token_required
from inframind.lib.amounts import parse_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem
from marketplace.catalog.models import Version
from marketplace.catalog.serving import not_on_the_list
from marketplace.catalog.visibility import kind_of, roles_on
from marketplace.gateway import loop, pipeline, streaming
from marketplace.storefront.pages import viewer_of
from marketplace.storefront.readable import readable_json
from marketplace.storefront.schema_form import Field, read_form, with_violations

GRACE_SECONDS = 5
SIGN_REMEDY = "Sign in, or paste a token that may call models into the field."


@dataclass(frozen=True)
class Shortage:
    """A call that its payer cannot pay for (402), in base units; None where that was not told.

    ``day_limit``: what the payer may spend in a day, where that is why.
    """

    price: int | None
    balance: int | None
    available: int | None
    day_limit: int | None


@dataclass(frozen=True)
class Answer:
    """What came back: the output document, or the problem in words. Latency is in milliseconds."""

    ok: bool
    status: int
    document: str
    latency_ms: float
    fee_base_units: int | None = None
    node: str = ""
    receipt: str = ""
    title: str = ""
    detail: str = ""
    remedy: str = ""
    charged: bool | None = False  # None: nobody can say yet
    violations: tuple[Mapping[str, Any], ...] = ()
    token_error: str = ""
    short: Shortage | None = None


@dataclass(frozen=True)
class Tried:
    """The form as sent, with its errors, and the answer if the call was made."""

    fields: tuple[Field, ...]
    document: Any
    answer: Answer | None


def _timed_ms(header: str, measured_ms: float) -> float:
    """The `total` (else smallest) duration of a Server-Timing header, else the measured one."""
    found = []
    for entry in header.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key == "dur" and value.replace(".", "", 1).isdecimal():
                found.append((name != "total", float(value)))
    return min(found, key=lambda each: each[0])[1] if found else measured_ms


def _amount(text: str) -> int | None:
    try:
        return parse_ifm(text)
    except ValueError:
        return None


def _shortage(problem: Mapping[str, Any]) -> Shortage:
    def told(name: str) -> int | None:
        amount = problem.get(name)
        text = amount.get("base_units") if isinstance(amount, Mapping) else None
        return int(text) if isinstance(text, str) and text.isdecimal() else None

    return Shortage(told("price"), told("balance"), told("available"), told("day_limit"))


def answer_of_problem(
    problem: Mapping[str, Any], status: int, latency_ms: float, receipt: str
) -> Answer:
    """A refusal of the gateway, in the words of a page."""
    violations = problem.get("violations", ())
    detail = str(problem.get("detail", ""))
    seconds = problem.get("retry_after_seconds")
    # A program sends a header; a reader has a field.
    remedy = SIGN_REMEDY if status == 401 else str(problem.get("remedy", ""))
    return Answer(
        ok=False,
        status=status,
        document=readable_json(problem),
        latency_ms=latency_ms,
        receipt=receipt,
        title=str(problem.get("title", "The call failed")),
        detail=detail,
        remedy=f"Try again in {seconds} s." if seconds else remedy,
        charged=problem.get("charged", False),
        violations=tuple(each for each in violations if isinstance(each, Mapping)),
        token_error=detail if status in (401, 403) else "",
        short=_shortage(problem) if status == 402 else None,
    )


def _call(version: Version, body: bytes, caller: Caller | None, remote_address: str) -> Answer:
    started = time.perf_counter()
    call_id = new_uuid7()
    call = pipeline.CallRequest(
        call_id=call_id,
        name=version.model_id,
        number=version.number,
        body=body,
        caller=caller,
        budget_base_units=None,
        remote_address=remote_address,
        deadline_seconds=settings.CALL_DEADLINE_SECONDS,
    )
    seconds = settings.CALL_DEADLINE_SECONDS
    if version.streaming:
        # A page shows an answer whole, so it waits for all of its pieces.
        work, seconds = streaming.gathered(call), settings.STREAM_DEADLINE_SECONDS
    else:
        work = pipeline.call(call)
    reply = loop.submit(work, seconds + GRACE_SECONDS, call_id=call_id)
    headers = {key.lower(): value for key, value in reply.headers.items()}
    latency_ms = _timed_ms(headers.get("server-timing", ""), (time.perf_counter() - started) * 1000)
    document = orjson.loads(reply.document)
    receipt = headers.get("inframind-receipt", "")
    if reply.status >= 400:
        return answer_of_problem(document, reply.status, latency_ms, receipt)
    return Answer(
        ok=True,
        status=reply.status,
        document=readable_json(document),
        latency_ms=latency_ms,
        fee_base_units=_amount(headers.get("inframind-fee", "")),
        node=headers.get("inframind-node", ""),
        receipt=receipt,
    )


def _require_leave(caller: Caller | None, version: Version) -> None:
    """Says who may not call at all before anybody mends a form for it. Raises ``Problem``."""
    name = version.model_id
    admit(caller, "model.call", name=name)
    require(
        caller,
        "model.call",
        kind_of(version.model),
        roles=roles_on(caller, version.model),
        unless_signed_in=token_required(f"{name} is called with a token."),
        otherwise=not_on_the_list(name),
    )


def try_version(version: Version, blank: Sequence[Field], request: HttpRequest) -> Tried:
    """Make the call that the posted form says.

    A form that cannot be read makes no call. A refusal of the gateway becomes an answer, its
    violations beside the fields that hold their pointers.
    """
    files = {
        name: upload.read()
        for name, upload in request.FILES.items()
        if isinstance(upload, UploadedFile)
    }
    document, fields = read_form(blank, request.POST.dict(), files)
    token = request.POST.get("token", "").strip()
    address = str(request.META.get("REMOTE_ADDR", ""))
    started = time.perf_counter()
    try:
        caller = authenticate(token, address) if token else viewer_of(request)
        _require_leave(caller, version)
        if any(field.error for field in fields):
            return Tried(fields, document, None)
        body = json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
        answer = _call(version, body, caller, address)
    except Problem as problem:
        elapsed_ms = (time.perf_counter() - started) * 1000
        receipt = problem.headers.get("Inframind-Receipt", "")
        answer = answer_of_problem(problem.as_document(), problem.status, elapsed_ms, receipt)
    if answer.ok or answer.token_error:
        return Tried(fields, document, answer)
    marked, _ = with_violations(fields, answer.violations)
    return Tried(marked, document, answer)
