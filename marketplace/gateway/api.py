"""Fronts of the gateway: a call, a model's diagnostics, a receipt."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity.api import bearer_of_request, caller_of, refuse_token_in_url, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.queries import authenticate
from inframind.lib.amounts import amount_document, parse_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem, Violation
from marketplace.catalog.queries import get_version, servable
from marketplace.gateway import body, loop, pipeline, queries, receipts, usage

# The pipeline keeps its own deadline; this only guards against its never coming back.
GRACE_SECONDS: Final = 5.0
# OpenAPI security requirements, which the annotations of extend_schema take for mere names.
_BEARER_OR_NONE: Final[Any] = [{}, {"bearer": []}]


class AnyAccept(BaseContentNegotiation):
    """JSON comes out, whatever the client says it would like."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0] if parsers else None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return JSONRenderer(), "application/json"


class FeesDocument(serializers.Serializer[Any]):
    base_units = serializers.CharField(help_text="Exact integer, 10^18 to the IFM.")
    text = serializers.CharField(help_text='Readable, like "0.25 IFM".')


class TallyDocument(serializers.Serializer[Any]):
    calls = serializers.IntegerField()
    served = serializers.IntegerField()
    fees = FeesDocument()


class DayDocument(TallyDocument):
    day = serializers.DateField()


class UsedModelDocument(TallyDocument):
    model = serializers.CharField()


class UsedTokenDocument(TallyDocument):
    token = serializers.UUIDField(allow_null=True, help_text="None: signed in on a page.")
    name = serializers.CharField(allow_null=True)


class UsageDocument(TallyDocument):
    days = serializers.IntegerField()
    since = serializers.DateField(help_text="The first day, UTC.")
    by_day = DayDocument(many=True)
    by_model = UsedModelDocument(many=True)
    by_token = UsedTokenDocument(many=True)


@permitted(GET="model.see", POST="model.call")
class InferenceView(APIView):
    """`POST` a document to a model; `GET` tells how."""

    content_negotiation_class = AnyAccept
    # The pipeline authenticates: a view that held a database connection while it waits for the
    # loop would starve the calls it waits for.
    authentication_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Whatever the method: a token in the address is refused."""
        refuse_token_in_url(request.query_params)
        super().initial(request, *args, **kwargs)

    @extend_schema(
        operation_id="inference_call",
        auth=_BEARER_OR_NONE,
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT},
        description="Runs the model: JSON document in, JSON document out, as its schemas say.",
    )
    def post(self, request: Request, reference: str) -> HttpResponse:
        bearer = bearer_of_request(request)
        name, _, number = reference.partition("@")
        budget = _budget(request.headers.get("Inframind-Budget"))
        call_id = new_uuid7()
        answer = loop.submit(
            pipeline.call(
                pipeline.CallRequest(
                    call_id=call_id,
                    name=name,
                    number=number or None,
                    body=_body(request),
                    bearer=bearer,
                    budget_base_units=budget,
                    remote_address=request.META.get("REMOTE_ADDR", ""),
                    deadline_seconds=settings.CALL_DEADLINE_SECONDS,
                    idempotency_key=request.headers.get("Idempotency-Key"),
                )
            ),
            settings.CALL_DEADLINE_SECONDS + GRACE_SECONDS,
            call_id=call_id,
        )
        return HttpResponse(answer.document, status=answer.status, headers=answer.headers)

    @extend_schema(
        operation_id="inference_describe",
        auth=_BEARER_OR_NONE,
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, reference: str) -> Response:
        bearer = bearer_of_request(request)
        caller = None
        if bearer is not None:
            caller = authenticate(bearer, request.META.get("REMOTE_ADDR", ""))
        name, _, number = reference.partition("@")
        found = servable(name, number or None, viewer=caller)
        return Response(
            {
                "model": f"{found.name}@{found.number}",
                "call": f"POST {settings.SITE_URL}/inference/v1/{reference}",
                "content_type": "application/json",
                "token_required": found.auth_required or found.fee_base_units > 0,
                "price": amount_document(found.fee_base_units),
                "input_schema": found.input_schema,
                "output_schema": found.output_schema,
            }
        )


@permitted(GET="model.see")
class DiagnosticsView(APIView):
    """How a model has been doing, with sample sizes; null where there are too few."""

    @extend_schema(operation_id="models_diagnostics", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, name: str) -> Response:
        caller = viewer_of(request)
        number = request.query_params.get("version")
        version = get_version(name, number, viewer=caller)
        found = queries.diagnostics(version.model_id, version.number if number else None)
        return Response(
            {
                "model": version.model_id,
                "version": version.number if number else None,
                "min_sample": queries.MIN_SAMPLE,
                **asdict(found),
            }
        )


@permitted(GET="receipt.read")
class ReceiptView(APIView):
    """What came of one call, signed: what everybody may check, and to those whose call, model or
    node it was, who called and the digests of what was said."""

    @extend_schema(operation_id="receipts_retrieve", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request, call_id: UUID) -> Response:
        found = queries.receipt(call_id, viewer=viewer_of(request))
        return Response(receipts.as_document(found))


@permitted(GET="usage.read")
class UsageView(APIView):
    """What the account has called and spent, per day (UTC), model and token."""

    @extend_schema(
        operation_id="account_usage",
        parameters=[OpenApiParameter("days", int, description="1 to 366, today included.")],
        responses=UsageDocument,
    )
    def get(self, request: Request) -> Response:
        """Calls, how many were served, and fees; a token for named models sees those only."""
        caller = caller_of(request)
        text = request.query_params.get("days", "30")
        if re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) is None or not 1 <= int(text) <= 366:
            raise Problem(
                "invalid-request",
                "The days of a usage report are a whole number from 1 to 366.",
                status=422,
                violations=(Violation("/days", "It is not a whole number from 1 to 366."),),
                remedy="Ask with ?days=30.",
            )
        found = usage.usage_of(caller, days=int(text))
        return Response(
            {
                "days": int(text),
                "since": found.since,
                **_tally(found.total),
                "by_day": [{"day": day, **_tally(each)} for day, each in found.by_day],
                "by_model": [{"model": name, **_tally(each)} for name, each in found.by_model],
                "by_token": [
                    {"token": used.id, "name": used.name, **_tally(each)}
                    for used, each in found.by_token
                ],
            }
        )


def _tally(tally: usage.Tally) -> dict[str, Any]:
    return {
        "calls": tally.calls,
        "served": tally.served,
        "fees": amount_document(tally.fees_base_units),
    }


def _budget(text: str | None) -> int | None:
    if text is None:
        return None
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


def _body(request: Request) -> bytes:
    kind = (request.content_type or "").partition(";")[0].strip().lower()
    if re.fullmatch(r"application/(?:[\w.-]+\+)?json", kind) is None:
        raise Problem(
            "unsupported-media-type",
            f"The body is {kind or 'of no type'}, and application/json is read here.",
            status=415,
            remedy="Send the document with the header Content-Type: application/json.",
        )
    limit = settings.CALL_BODY_MAX_BYTES
    declared = str(request.META.get("CONTENT_LENGTH") or "0")
    if declared.isdigit() and int(declared) > limit:
        raise body.too_large(limit)
    # One byte more than allowed tells a body that is too large from one that just fits.
    return bytes(request._request.read(limit + 1))
