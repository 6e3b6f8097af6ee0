"""REST of access: policy, allow list, requests and groups."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity.api import caller_of, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from marketplace.catalog import access, access_requests, groups, services
from marketplace.catalog import access_documents as documents
from marketplace.catalog.access import Guest, managed
from marketplace.catalog.models import Model

_IF_MATCH = OpenApiParameter(
    "If-Match", OpenApiTypes.STR, OpenApiParameter.HEADER, description="The ETag that you read."
)


@permitted(GET="model.manage", PATCH="model.manage")
class AccessView(APIView):
    """Who may see and call a model."""

    @extend_schema(operation_id="access_retrieve", responses=documents.AccessSerializer)
    def get(self, request: Request, name: str) -> Response:
        """The policy and the allow list; the owner's to read."""
        return _access(managed(name, viewer_of(request)))

    @extend_schema(
        operation_id="access_change",
        parameters=[_IF_MATCH],
        request=documents.PolicyChangeSerializer,
        responses=documents.AccessSerializer,
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change the policy, from the next call on; the old one stays in the history."""
        model = managed(name, viewer_of(request))
        given = _read(documents.PolicyChangeSerializer, request)
        services.change_access(
            model=model,
            public=given.get("public"),
            restricted=given.get("restricted"),
            auth_required=given.get("auth_required"),
            reason=given.get("reason", "") or "Changed by its owner.",
            changed_by=_wallet(request),
            expected_tag=_expected_tag(request),
        )
        return _access(managed(name, viewer_of(request)))


@permitted(POST="model.manage")
class EntriesView(APIView):
    @extend_schema(
        operation_id="access_allow",
        request=documents.GuestsSerializer,
        responses=documents.OutcomeSerializer,
    )
    def post(self, request: Request, name: str) -> Response:
        """Let wallets and groups in: up to 1000 lines, all or none. Twice is once."""
        model = managed(name, viewer_of(request))
        given = _read(documents.GuestsSerializer, request)
        outcome = services.allow(
            model=model,
            guests=[
                Guest(
                    address=each.get("address", ""),
                    group=each.get("group", ""),
                    expires_at=each.get("expires_at"),
                    note=each.get("note", ""),
                )
                for each in given["entries"]
            ],
            changed_by=_wallet(request),
        )
        return Response(asdict(outcome))


@permitted(DELETE="model.manage")
class EntryView(APIView):
    @extend_schema(operation_id="access_remove", responses={204: None})
    def delete(self, request: Request, name: str, who: str) -> Response:
        """Take `0x…` or `@group` off the list, from the next call on."""
        model = managed(name, viewer_of(request))
        services.remove(model=model, who=who, changed_by=_wallet(request))
        return Response(status=204)


@permitted(GET="model.manage")
class HistoryView(APIView):
    @extend_schema(operation_id="access_history", responses=documents.HistorySerializer)
    def get(self, request: Request, name: str) -> Response:
        """Every change of policy, list and groups on it, the newest first, up to 500."""
        model = managed(name, viewer_of(request))
        return Response({"history": [asdict(line) for line in access.history(model)]})


@permitted(GET="model.manage", POST="access.ask")
class RequestsView(APIView):
    @extend_schema(operation_id="access_requests_list", responses=documents.RequestsSerializer)
    def get(self, request: Request, name: str) -> Response:
        """Who asked to be let in; the owner's to read."""
        model = managed(name, viewer_of(request))
        found = access_requests.requests_for(model)[: access.HISTORY_LENGTH]
        return Response({"requests": [documents.request_document(each) for each in found]})

    @extend_schema(
        operation_id="access_requests_ask",
        request=documents.AskSerializer,
        responses={202: documents.AskedAnswerSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        """Ask to be let in. The answer is the same for every name, also for one nobody took."""
        given = _read(documents.AskSerializer, request)
        services.ask(wallet=_wallet(request), name=name, message=given.get("message", ""))
        return Response({"detail": access_requests.ASKED}, status=202)


@permitted(PATCH="model.manage")
class RequestView(APIView):
    @extend_schema(
        operation_id="access_requests_decide",
        request=documents.DecisionSerializer,
        responses=documents.RequestSerializer,
    )
    def patch(self, request: Request, name: str, request_id: UUID) -> Response:
        """Approve or refuse; a refusal is silent unless `tell`."""
        model = managed(name, viewer_of(request))
        given = _read(documents.DecisionSerializer, request)
        decided = services.decide(
            model=model,
            request_id=request_id,
            state=given["state"],
            answer=given.get("answer", ""),
            tell=given.get("tell", False),
            expires_at=given.get("expires_at"),
            decided_by=_wallet(request),
        )
        return Response(documents.request_document(decided))


@permitted(GET="account.manage")
class AskedView(APIView):
    @extend_schema(operation_id="account_access_requests", responses=documents.AskedListSerializer)
    def get(self, request: Request) -> Response:
        """What the wallet asked for: open, approved, or refused with an answer."""
        asked = access_requests.asked_by(_wallet(request).pk)
        return Response({"requests": [asdict(each) for each in asked]})


@permitted(GET="account.manage", POST="account.manage")
class GroupsView(APIView):
    @extend_schema(operation_id="groups_list", responses=documents.GroupListSerializer)
    def get(self, request: Request) -> Response:
        """The wallet's groups."""
        return Response(
            {
                "groups": [
                    {
                        "name": group.name,
                        "members": getattr(group, "member_count", 0),
                        "lists": getattr(group, "list_count", 0),
                        "created_at": group.created_at,
                    }
                    for group in groups.groups_of(_wallet(request).pk)
                ]
            }
        )

    @extend_schema(
        operation_id="groups_create",
        request=documents.GroupNameSerializer,
        responses={201: documents.GroupSerializer},
    )
    def post(self, request: Request) -> Response:
        """Make a group."""
        given = _read(documents.GroupNameSerializer, request)
        group = services.create_group(owner=_wallet(request), name=given["name"])
        found = groups.group_of(group.owner_id, group.name)
        return Response(documents.group_document(found), status=201)


@permitted(GET="account.manage", DELETE="account.manage")
class GroupView(APIView):
    @extend_schema(operation_id="groups_retrieve", responses=documents.GroupSerializer)
    def get(self, request: Request, group: str) -> Response:
        """A group with its members."""
        found = groups.group_of(_wallet(request).pk, group)
        return Response(documents.group_document(found))

    @extend_schema(operation_id="groups_delete", responses={204: None})
    def delete(self, request: Request, group: str) -> Response:
        """End a group; whoever was let in by it alone is out at once."""
        services.delete_group(owner=_wallet(request), name=group)
        return Response(status=204)


@permitted(POST="account.manage")
class MembersView(APIView):
    @extend_schema(
        operation_id="groups_add",
        request=documents.MembersSerializer,
        responses=documents.OutcomeSerializer,
    )
    def post(self, request: Request, group: str) -> Response:
        """Put wallets into a group: up to 1000 lines, all or none. Twice is once."""
        given = _read(documents.MembersSerializer, request)
        outcome = services.add_members(
            owner=_wallet(request),
            name=group,
            members=[
                groups.Member(each["address"], each.get("expires_at"), each.get("note", ""))
                for each in given["members"]
            ],
        )
        return Response(asdict(outcome))


@permitted(DELETE="account.manage")
class MemberView(APIView):
    @extend_schema(operation_id="groups_remove", responses={204: None})
    def delete(self, request: Request, group: str, address: str) -> Response:
        """Take a wallet out, from the next call on."""
        services.remove_member(owner=_wallet(request), name=group, address=address)
        return Response(status=204)


def _wallet(request: Request) -> Wallet:
    return Wallet.objects.get(pk=caller_of(request).address)


def _read(form_class: Any, request: Request) -> dict[str, Any]:
    form = form_class(data=request.data)
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)


def _expected_tag(request: Request) -> str:
    given = request.headers.get("If-Match", "").strip()
    return "" if given == "*" else given.removeprefix("W/").strip('"')


def _access(model: Model) -> Response:
    document = documents.access_document(model, list(access.entries_of(model)))
    return Response(document, headers={"ETag": f'"{access.tag_of(model)}"'})
