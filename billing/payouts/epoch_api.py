"""REST of epochs: from open to claimable, with what the chain has of them."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.epochs import queries
from billing.epochs.models import Epoch
from billing.epochs.opening import current
from billing.ledger.documents import (
    AmountDocument,
    bad_cursor,
    cursor_of,
    next_url,
)
from billing.payouts.explorer import Shown, shown
from inframind.identity.authority import permitted
from inframind.lib.amounts import amount_document

_ROWS: Final = 50
_NUMBER_MAX_DIGITS: Final = 18


class EpochDocument(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Epoch.State.choices)
    opened_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(help_text="When it is due to close.")
    closed_at = serializers.DateTimeField(allow_null=True)
    sealed_at = serializers.DateTimeField(allow_null=True)
    claimable_at = serializers.DateTimeField(allow_null=True)
    receipts = serializers.IntegerField(help_text="Of an open epoch: so far.")
    revenue = AmountDocument(help_text="Of an open epoch: so far.")
    total = AmountDocument(help_text="Of all leaves: what was ever earned.")
    leaves = serializers.IntegerField()
    root = serializers.CharField(  # type: ignore[assignment] # a field's name here
        allow_null=True, help_text="Of the tree; 32 bytes, 0x…."
    )
    receipts_root = serializers.CharField(allow_null=True)
    tree_cid = serializers.CharField(allow_null=True)
    receipts_cid = serializers.CharField(allow_null=True)
    transaction = serializers.CharField(allow_null=True, help_text="That brought the root.")


class EpochsDocument(serializers.Serializer[Any]):
    results = EpochDocument(many=True)
    next = serializers.URLField(allow_null=True)


@permitted(GET="site.read")
class EpochsView(APIView):
    """Every epoch, the newest first."""

    @extend_schema(
        operation_id="epochs_list",
        parameters=[OpenApiParameter("cursor", str)],
        responses=EpochsDocument,
        auth=[],
    )
    def get(self, request: Request) -> Response:
        """States, sums, roots and CIDs; 50 a page, the following one under `next`."""
        current()
        rows = queries.epochs()
        cursor = cursor_of(request.query_params)
        if cursor:
            if not (cursor.isdigit() and len(cursor) <= _NUMBER_MAX_DIGITS):
                raise bad_cursor()
            rows = rows.filter(number__lt=int(cursor))
        found = list(rows[: _ROWS + 1])
        more = len(found) > _ROWS
        return Response(
            {
                "results": [epoch_document(each) for each in shown(found[:_ROWS])],
                "next": (
                    next_url(request.path, request.query_params, str(found[_ROWS - 1].number))
                    if more
                    else None
                ),
            }
        )


@permitted(GET="site.read")
class EpochView(APIView):
    """One epoch."""

    @extend_schema(operation_id="epochs_retrieve", responses=EpochDocument, auth=[])
    def get(self, request: Request, number: int) -> Response:
        """State, sums, roots and CIDs."""
        [found] = shown([queries.epoch(number)])
        return Response(epoch_document(found))


def epoch_document(found: Shown) -> dict[str, Any]:
    """An epoch as ``EpochDocument`` has it."""
    epoch = found.epoch
    return {
        "number": epoch.number,
        "state": epoch.state,
        "opened_at": epoch.opened_at,
        "ends_at": epoch.ends_at,
        "closed_at": epoch.closed_at,
        "sealed_at": epoch.sealed_at,
        "claimable_at": epoch.claimable_at,
        "receipts": found.calls,
        "revenue": amount_document(found.revenue_base_units),
        "total": amount_document(found.total_base_units),
        "leaves": epoch.leaf_count,
        "root": found.root_hex or None,
        "receipts_root": found.receipts_root_hex or None,
        "tree_cid": epoch.tree_cid or None,
        "receipts_cid": epoch.receipts_cid or None,
        "transaction": found.transaction or None,
    }
