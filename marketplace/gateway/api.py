"""Fronts of the gateway: a call, a model's diagnostics, a receipt."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any, Final
from uuid import UUID

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity.api import caller_of, viewer_of
from inframind.identity.authority import permitted
from inframind.lib.amounts import amount_document
from inframind.lib.problem import Problem, Violation
from marketplace.catalog.queries import get_version
from marketplace.gateway import batch, queries, receipts, usage
from marketplace.gateway.bridge import HandlerView

# OpenAPI security requirements, which the annotations of extend_schema take for mere names.
_BEARER_OR_NONE: Final[Any] = [{}, {"bearer": []}]


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
class InferenceView(HandlerView):
    """`POST` a document to a model; `GET` tells how."""

    @extend_schema(
        operation_id="inference_call",
        auth=_BEARER_OR_NONE,
        request=OpenApiTypes.OBJECT,
        responses={200: OpenApiTypes.OBJECT},
        description="Runs the model: JSON document in, JSON document out, as its schemas say.",
    )
    def post(self, request: Request, reference: str) -> HttpResponseBase:
        return self.answered(request)

    @extend_schema(
        operation_id="inference_describe",
        auth=_BEARER_OR_NONE,
        responses={200: OpenApiTypes.OBJECT},
    )
    def get(self, request: Request, reference: str) -> HttpResponseBase:
        return self.answered(request)


class BatchResultDocument(serializers.Serializer[Any]):
    status = serializers.IntegerField()
    output = serializers.JSONField(required=False, help_text="Where status is 200.")
    problem = serializers.DictField(required=False, help_text="RFC 9457; where it is not.")
    receipt = serializers.UUIDField(allow_null=True)
    fee = serializers.CharField(help_text='Like "0.25 IFM".')
    node = serializers.CharField(allow_null=True)
    replayed = serializers.BooleanField(required=False)


class BatchDocument(serializers.Serializer[Any]):
    model = serializers.CharField()
    served = serializers.IntegerField()
    fee = FeesDocument(help_text="Of all inputs together.")
    results = BatchResultDocument(many=True)


@permitted(POST="model.call")
class BatchView(HandlerView):
    @extend_schema(
        operation_id="inference_batch",
        auth=_BEARER_OR_NONE,
        request={
            "application/json": {
                "type": "array", "items": {}, "minItems": 1, "maxItems": batch.MAX_INPUTS,
            }
        },
        responses=BatchDocument,
    )  # fmt: skip
    def post(self, request: Request, reference: str) -> HttpResponseBase:
        """Runs the model on each document of an array, each a call of its own."""
        return self.answered(request)


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
