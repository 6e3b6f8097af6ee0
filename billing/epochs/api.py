"""What is published of an epoch, as it lies in the store: anybody may fetch it and check it."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from billing.epochs import queries
from billing.epochs.models import Epoch
from inframind.identity.authority import permitted
from inframind.lib.problem import Problem
from inframind.storage import dumps
from inframind.storage.errors import ContentNotFound, StoreUnavailable

# The address tells an epoch, and a sealed one never changes: a cache may keep it for good.
_KEPT: Final = "public, max-age=31536000, immutable"


class AsItIs(BaseContentNegotiation):
    """The file comes out as it was published, whatever the client says it would like."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0] if parsers else None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = renderers[0]
        renderer = renderer() if isinstance(renderer, type) else renderer
        return renderer, str(renderer.media_type)


@permitted(GET="site.read")
class TreeView(APIView):
    """The tree of a sealed epoch: OpenZeppelin's dump with every line beside it."""

    content_negotiation_class = AsItIs

    @extend_schema(operation_id="epochs_tree", responses={200: OpenApiTypes.OBJECT}, auth=[])
    def get(self, request: Request, number: int) -> HttpResponseBase:
        """The same bytes as under the CID that the header `Inframind-Cid` names."""
        epoch = _sealed(number)
        return _dump(request, epoch.tree_cid, f"tree-{number}.json", "application/json")


@permitted(GET="site.read")
class EpochReceiptsView(APIView):
    """Every receipt of a sealed epoch, as JSON Lines: batches with their signatures and leaves."""

    content_negotiation_class = AsItIs

    @extend_schema(
        operation_id="epochs_receipts",
        responses={(200, "application/x-ndjson"): OpenApiTypes.BINARY},
        auth=[],
    )
    def get(self, request: Request, number: int) -> HttpResponseBase:
        """The same bytes as under the CID that the header `Inframind-Cid` names."""
        epoch = _sealed(number)
        return _dump(
            request, epoch.receipts_cid, f"receipts-{number}.jsonl", "application/x-ndjson"
        )


def _sealed(number: int) -> Epoch:
    epoch = queries.epoch(number)
    if epoch.state in (Epoch.State.OPEN, Epoch.State.CLOSING):
        raise Problem(
            "epoch-not-sealed",
            f"Epoch {number} is {epoch.state}: nothing of it is published yet.",
            status=409,
            remedy="Come back when it is sealed; GET /api/v1/epochs says when it ends.",
            retry_safe=True,
        )
    return epoch


def _dump(request: Request, cid: str, name: str, media_type: str) -> HttpResponseBase:
    headers = {
        "Inframind-Cid": cid,
        "ETag": f'"{cid}"',
        "Cache-Control": _KEPT,
        "Content-Disposition": f'attachment; filename="{name}"',
        "X-Content-Type-Options": "nosniff",
    }
    if f'"{cid}"' in request.headers.get("If-None-Match", ""):
        return HttpResponse(status=304, headers=headers)
    try:
        pieces = dumps.read(cid)
    except (ContentNotFound, StoreUnavailable):
        raise Problem(
            "dump-unavailable",
            f"The dump is not here at the moment. Its CID is {cid}.",
            status=503,
            remedy="Fetch it by its CID from IPFS, or try again later.",
            retry_safe=True,
            retry_after_seconds=30,
        ) from None
    return StreamingHttpResponse(pieces, content_type=media_type, headers=headers)
