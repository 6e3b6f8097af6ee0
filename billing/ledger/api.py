"""REST of the prepaid balance: what there is, what moved, and the limit for a day."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.ledger.documents import (
    AmountDocument,
    AmountField,
    StrictRequest,
    bad_cursor,
    cursor_of,
    next_url,
)
from billing.ledger.models import Reason
from billing.ledger.queries import Entry, balance_of, entries_of
from billing.ledger.refusals import TOP_UP
from billing.ledger.services import set_day_limit
from inframind.identity.api import caller_of
from inframind.identity.authority import permitted
from inframind.lib.amounts import amount_document
from inframind.lib.problem import Problem

_ROWS: Final = 50


class EntryDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    at = serializers.DateTimeField()
    amount = AmountDocument(help_text="Below zero for what left the balance.")
    reason = serializers.ChoiceField(choices=Reason.choices)
    subject = serializers.CharField(allow_blank=True, help_text="A transaction, or an epoch.")


class LimitsOfDayDocument(serializers.Serializer[Any]):
    day_limit = AmountDocument(allow_null=True)
    day_used = AmountDocument()


class BalanceDocument(LimitsOfDayDocument):
    wallet = serializers.CharField()
    balance = AmountDocument(help_text="Deposits less withdrawals and every recorded call.")
    available = AmountDocument(help_text="What of that is neither held nor under way.")
    held = AmountDocument(help_text="Set aside for withdrawals and escrows.")
    under_way = AmountDocument(help_text="Set aside for calls that run now.")
    charged_this_epoch = AmountDocument(help_text="Off the balance already, posted at its close.")
    entries = EntryDocument(many=True)
    next = serializers.URLField(allow_null=True, help_text="The older entries.")
    top_up = serializers.CharField()


class LimitRequest(StrictRequest):
    per_day = AmountField(zero=True, allow_null=True, help_text='"5 IFM"; null takes it away.')


@permitted(GET="usage.read")
class BalanceView(APIView):
    """The prepaid balance of the account."""

    @extend_schema(
        operation_id="account_balance",
        parameters=[OpenApiParameter("cursor", str)],
        responses=BalanceDocument,
    )
    def get(self, request: Request) -> Response:
        """What there is and the newest 50 entries; the older ones under `next`."""
        wallet = caller_of(request).address
        found = balance_of(wallet)
        entries = _entries(wallet, cursor_of(request.query_params))
        more = len(entries) > _ROWS
        return Response(
            {
                "wallet": wallet,
                "balance": amount_document(found.balance_base_units),
                "available": amount_document(found.available_base_units),
                "held": amount_document(found.held_base_units),
                "under_way": amount_document(found.under_way_base_units),
                "charged_this_epoch": amount_document(found.charged_unposted_base_units),
                **_limit_document(found.day_limit_base_units, found.day_used_base_units),
                "entries": [
                    {
                        "id": each.id,
                        "at": each.at,
                        "amount": amount_document(each.amount_base_units),
                        "reason": each.reason.value,
                        "subject": each.subject,
                    }
                    for each in entries[:_ROWS]
                ],
                "next": (
                    next_url(request.path, request.query_params, str(entries[_ROWS - 1].id))
                    if more
                    else None
                ),
                "top_up": TOP_UP,
            }
        )


@permitted(PUT="funds.move")
class LimitView(APIView):
    """The most that the account spends in a day, whatever its tokens may."""

    @extend_schema(
        operation_id="account_limit", request=LimitRequest, responses=LimitsOfDayDocument
    )
    def put(self, request: Request) -> Response:
        """Set the limit for a day (UTC); null takes it away. It holds from the next call on."""
        wallet = caller_of(request).address
        form = LimitRequest(data=request.data)
        form.is_valid(raise_exception=True)
        set_day_limit(wallet, form.validated_data["per_day"])
        found = balance_of(wallet)
        return Response(_limit_document(found.day_limit_base_units, found.day_used_base_units))


def _limit_document(limit: int | None, used: int) -> dict[str, Any]:
    return {
        "day_limit": None if limit is None else amount_document(limit),
        "day_used": amount_document(used),
    }


def _entries(wallet: str, cursor: str) -> list[Entry]:
    try:
        before = UUID(cursor) if cursor else None
        return entries_of(wallet, before=before, limit=_ROWS + 1)
    except ValueError:
        raise bad_cursor() from None
    except Problem as problem:
        # Of a strange entry no more is said than of one that nobody has.
        if problem.status == 404:
            raise bad_cursor() from None
        raise
