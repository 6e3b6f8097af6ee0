"""REST of what an owner changes on a version: its standing and its terms."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity.api import caller_of, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.lib.amounts import parse_ifm
from inframind.lib.problem import Problem, Violation
from marketplace.catalog import access_documents, documents, lifecycle, queries, services
from marketplace.catalog.access import managed


@permitted(POST="model.manage")
class DeprecateView(APIView):
    @extend_schema(
        operation_id="versions_deprecate",
        request=access_documents.DeprecationSerializer,
        responses=documents.VersionSerializer,
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Mark a version as replaced. It stays callable, and its answers say where to go.

        Of one that is deprecated already, what is given changes and the rest stays.
        """
        caller = viewer_of(request)
        model = managed(name, caller)
        form = access_documents.DeprecationSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        sunset_at = given.get("sunset_at")
        if sunset_at is not None and sunset_at <= timezone.now():
            raise _unusable("/sunset_at", "That time has passed already.")
        found = queries.get_version(name, version, viewer=caller)
        stands = found.state == lifecycle.DEPRECATED
        successor = found.successor if stands else None
        if "successor" in given:
            successor = queries.find_successor(model, given["successor"], caller)
        services.deprecate(
            version=found,
            successor=successor,
            sunset_at=given.get("sunset_at", found.sunset_at if stands else None),
            reason=given.get("reason", found.state_reason if stands else ""),
        )
        found = queries.get_version(name, version, viewer=caller)
        return Response(documents.version_document(found))


@permitted(PATCH="model.manage")
class TermsView(APIView):
    @extend_schema(
        operation_id="versions_terms",
        request=access_documents.TermsSerializer,
        responses=documents.VersionSerializer,
    )
    def patch(self, request: Request, name: str, version: str) -> Response:
        """Change fee, payout address or end, from the next call on; the old terms are kept."""
        caller = viewer_of(request)
        managed(name, caller)
        form = access_documents.TermsSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        found = queries.get_version(name, version, viewer=caller)
        fee = given.get("per_request_fee")
        services.change_terms(
            version=found,
            fee_base_units=int(found.fee_base_units) if fee is None else read_fee(fee),
            payout_address=given.get("payout_address", found.payout_address),
            expires_at=given.get("expires_at", found.expires_at),
            reason=given.get("reason", "") or "Changed by its owner.",
            changed_by=Wallet.objects.get(pk=caller_of(request).address),
        )
        found = queries.get_version(name, version, viewer=caller)
        return Response(documents.version_document(found))


def read_fee(text: str) -> int:
    """Base units of an amount such as ``0.25 IFM``. Raises a 422 ``Problem``."""
    try:
        return parse_ifm(text)
    except ValueError as error:
        raise _unusable("/per_request_fee", str(error)) from None


def _unusable(pointer: str, detail: str) -> Problem:
    violations: tuple[Any, ...] = (Violation(pointer, detail),)
    return Problem("invalid-request", detail, status=422, violations=violations)
