"""The reference front of ``/v2``, and what OpenAPI says of it."""

from __future__ import annotations

from typing import Any, Final

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request

from inframind.identity.authority import permitted
from marketplace.gateway.bridge import HandlerView
from marketplace.gateway.oip import HEADER_LENGTH

# OpenAPI security requirements, which the annotations of extend_schema take for mere names.
_BEARER_OR_NONE: Final[Any] = [{}, {"bearer": []}]
_JSON: Final = (200, "application/json")
_DOCUMENT: Final = {_JSON: OpenApiTypes.OBJECT}
_HEADER_LENGTH: Final = OpenApiParameter(
    HEADER_LENGTH,
    int,
    OpenApiParameter.HEADER,
    description="Bytes of the JSON header, where binary tensor data follow it.",
)


@permitted(GET="site.read")
class ServerView(HandlerView):
    @extend_schema(operation_id="oip_server", auth=[], responses=_DOCUMENT)
    def get(self, request: Request) -> HttpResponseBase:
        """Who answers, and which extensions of the Open Inference Protocol are spoken."""
        return self.answered(request)


@permitted(GET="site.read")
class LiveView(HandlerView):
    @extend_schema(operation_id="oip_live", auth=[], responses=_DOCUMENT)
    def get(self, request: Request) -> HttpResponseBase:
        """That the server runs."""
        return self.answered(request)


@permitted(GET="site.read")
class ReadyView(HandlerView):
    @extend_schema(operation_id="oip_ready", auth=[], responses=_DOCUMENT)
    def get(self, request: Request) -> HttpResponseBase:
        """Whether the database answers and a node is ready; 503 where not."""
        return self.answered(request)


class _ModelView(HandlerView):
    """An address with a model in it, and in some a version."""

    @extend_schema(auth=_BEARER_OR_NONE, responses=_DOCUMENT)
    def get(self, request: Request, name: str, version: str = "") -> HttpResponseBase:
        return self.answered(request)


@permitted(GET="model.see")
class MetadataView(_ModelView):
    """A version's tensors: names, datatypes and shapes, -1 for any length."""


@permitted(GET="model.see")
class ConfigView(_ModelView):
    """What of a Triton model configuration is the version's own."""


@permitted(GET="model.see")
class StatisticsView(_ModelView):
    """The version's calls of the last hour, as Triton would count them."""


@permitted(GET="model.call")
class ModelReadyView(_ModelView):
    """Whether a node holds the version now; if none does, one begins to load it."""


@permitted(POST="model.call")
class InferView(HandlerView):
    @extend_schema(
        auth=_BEARER_OR_NONE,
        parameters=[_HEADER_LENGTH],
        request={
            "application/json": OpenApiTypes.OBJECT,
            "application/octet-stream": OpenApiTypes.BINARY,
        },
        responses={**_DOCUMENT, (200, "application/octet-stream"): OpenApiTypes.BINARY},
    )
    def post(self, request: Request, name: str, version: str = "") -> HttpResponseBase:
        """One inference: tensors in, tensors out, by the names and shapes of the metadata."""
        return self.answered(request)
