"""REST of tokens: make, list, rotate, revoke (RFC 7009) and look into (RFC 7662)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import IO, Any, Final, TypeVar
from uuid import UUID

from django.http import QueryDict
from django.urls import reverse
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity import queries, services
from inframind.identity.api import caller_of, refuse_token_in_url, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.caller import Caller
from inframind.identity.models import Token, Wallet
from inframind.lib.amounts import amount_document, parse_ifm
from inframind.lib.durations import parse_duration
from inframind.lib.problem import Problem
from inframind.lib.scopes import ACTIONS
from inframind.parsers import StrictJSONParser

Value = TypeVar("Value")

_FORM_MAX_BYTES: Final = 64 << 10
_FORM_MAX_FIELDS: Final = 20
_LIST_MAX: Final = 500
# The answer holds a token, or what one may do: no cache on the way keeps it (RFC 6749, 5.1).
_NOT_KEPT: Final = {"Cache-Control": "no-store"}


class FormParser(BaseParser):
    """``application/x-www-form-urlencoded``, at most 64 KiB."""

    media_type = "application/x-www-form-urlencoded"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> QueryDict:
        """Raises a 413 ``Problem`` above the limit."""
        body = stream.read(_FORM_MAX_BYTES + 1)
        if len(body) > _FORM_MAX_BYTES:
            raise Problem(
                "too-large",
                f"The request body is larger than {_FORM_MAX_BYTES} bytes.",
                status=413,
                remedy="Send the token alone.",
            )
        # Only the first fields are read: Django would refuse a thousand with an exception.
        return QueryDict(b"&".join(body.split(b"&")[:_FORM_MAX_FIELDS]))


class AmountDocument(serializers.Serializer[Any]):
    base_units = serializers.CharField(help_text="Exact integer, 10^18 to the IFM.")
    text = serializers.CharField(help_text='Readable, like "0.25 IFM".')


class CallsLimitDocument(serializers.Serializer[Any]):
    limit = serializers.IntegerField()
    used = serializers.IntegerField()


class SpendLimitDocument(serializers.Serializer[Any]):
    limit = AmountDocument()
    used = AmountDocument()


class LimitsDocument(serializers.Serializer[Any]):
    calls = CallsLimitDocument(allow_null=True)
    spend = SpendLimitDocument(allow_null=True)


class TokenDocument(serializers.Serializer[Any]):
    """A token as its owner sees it; the token itself is in no document but the first."""

    id = serializers.UUIDField()
    name = serializers.CharField()
    kind = serializers.ChoiceField(choices=Token.Kind.choices)
    actions = serializers.ListField(child=serializers.CharField())
    model_scope = serializers.ChoiceField(choices=Token.ModelScope.choices)
    models = serializers.ListField(child=serializers.CharField())
    ip_ranges = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    state = serializers.CharField(help_text="active, expired or revoked.")
    rotated_from = serializers.UUIDField(allow_null=True)
    limits = LimitsDocument()
    narrowings = serializers.IntegerField(help_text="Narrowed ones known, by a limit or revoked.")


class IssuedDocument(TokenDocument):
    token = serializers.CharField(help_text="Shown this once.")


class TokensDocument(serializers.Serializer[Any]):
    tokens = TokenDocument(many=True)


class TokenRequest(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=services.NAME_MAX_CHARACTERS, default="token")
    actions = serializers.ListField(
        child=serializers.CharField(max_length=20),
        default=lambda: ["invoke"],
        help_text=f"Some of {', '.join(sorted(ACTIONS))}.",
    )
    model_scope = serializers.CharField(
        max_length=8,
        required=False,
        help_text="any, owned or named; when left out, as models are named or not.",
    )
    models = serializers.ListField(child=serializers.CharField(max_length=80), default=list)
    expires_in = serializers.CharField(max_length=20, help_text="A duration such as 24h or 30d.")
    spend_limit = serializers.CharField(
        max_length=80, required=False, allow_null=True, help_text='An amount such as "5 IFM".'
    )
    calls_limit = serializers.IntegerField(required=False, allow_null=True, min_value=1)
    ip_ranges = serializers.ListField(child=serializers.CharField(max_length=60), default=list)

    def validate_expires_in(self, text: str) -> timedelta:
        return _read(parse_duration, text)

    def validate_spend_limit(self, text: str | None) -> int | None:
        return None if text is None else _read(parse_ifm, text)


class RotateRequest(serializers.Serializer[Any]):
    overlap = serializers.CharField(
        max_length=20, default="1h", help_text="How long the old token goes on, such as 1h."
    )

    def validate_overlap(self, text: str) -> timedelta:
        return _read(parse_duration, text)


class PresentedRequest(serializers.Serializer[Any]):
    token = serializers.CharField()
    token_type_hint = serializers.CharField(required=False, help_text="Taken, and not needed.")


class IntrospectionDocument(serializers.Serializer[Any]):
    """RFC 7662; all but ``active`` is there only where that is true."""

    active = serializers.BooleanField()
    token_type = serializers.CharField(required=False)
    scope = serializers.CharField(required=False)
    sub = serializers.CharField(required=False, help_text="The wallet's address.")
    username = serializers.CharField(required=False)
    jti = serializers.UUIDField(required=False, help_text="Of the narrowing, where it is one.")
    iat = serializers.IntegerField(required=False)
    exp = serializers.IntegerField(required=False)
    token_id = serializers.UUIDField(required=False)
    narrowed = serializers.IntegerField(required=False, help_text="How often.")
    model_scope = serializers.CharField(required=False)
    models = serializers.ListField(child=serializers.CharField(), required=False)
    owned_only = serializers.BooleanField(required=False)
    ip_ranges = serializers.ListField(
        child=serializers.CharField(), required=False, allow_null=True
    )
    calls_limit = serializers.IntegerField(required=False, allow_null=True)
    spend_limit = AmountDocument(required=False, allow_null=True)


@permitted(GET="account.manage", POST="account.manage")
class TokensView(APIView):
    """The account's tokens. Made and seen by the account itself, never by a scoped token."""

    @extend_schema(operation_id="tokens_list", responses=TokensDocument)
    def get(self, request: Request) -> Response:
        """The tokens of the account, ended ones too: the newest 500, newest first."""
        caller = caller_of(request)
        found = queries.tokens_of(caller.address)[:_LIST_MAX]
        return Response({"tokens": [as_document(token) for token in found]})

    @extend_schema(
        operation_id="tokens_create", request=TokenRequest, responses={201: IssuedDocument}
    )
    def post(self, request: Request) -> Response:
        """Make a token. The answer is the only place where it can be read."""
        caller = caller_of(request)
        form = TokenRequest(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        issued = services.mint_token(
            wallet=Wallet.objects.get(pk=caller.address),
            name=given["name"],
            actions=given["actions"],
            model_scope=given.get("model_scope"),
            models_allowed=given["models"],
            lifetime=given["expires_in"],
            spend_limit_base_units=given.get("spend_limit"),
            calls_limit=given.get("calls_limit"),
            ip_ranges=given["ip_ranges"],
        )
        return _created(caller, *issued)


@permitted(GET="account.manage", DELETE="account.manage")
class TokenView(APIView):
    """One of the account's tokens."""

    @extend_schema(operation_id="tokens_retrieve", responses=TokenDocument)
    def get(self, request: Request, token_id: UUID) -> Response:
        caller = caller_of(request)
        return Response(as_document(queries.token_of(caller.address, token_id)))

    @extend_schema(operation_id="tokens_revoke_by_id", responses={204: OpenApiResponse()})
    def delete(self, request: Request, token_id: UUID) -> Response:
        """Revoke it, and with it all that were narrowed from it. Twice is once."""
        caller = caller_of(request)
        services.revoke_token(token_id=token_id, wallet=Wallet.objects.get(pk=caller.address))
        return Response(status=204)


@permitted(POST="account.manage")
class RotateView(APIView):
    """A successor of a token."""

    @extend_schema(
        operation_id="tokens_rotate", request=RotateRequest, responses={201: IssuedDocument}
    )
    def post(self, request: Request, token_id: UUID) -> Response:
        """Replace a token by one with the same scope and limits; the old one ends after a while."""
        caller = caller_of(request)
        form = RotateRequest(data=request.data)
        form.is_valid(raise_exception=True)
        issued = services.rotate_token(
            token_id=token_id,
            wallet=Wallet.objects.get(pk=caller.address),
            overlap=form.validated_data["overlap"],
        )
        return _created(caller, *issued)


@permitted(POST="account.prove")
class RevokeView(APIView):
    """End a token by showing it (RFC 7009)."""

    # Whoever holds a token may end it: no other credential is asked for, and none is in the way.
    authentication_classes = ()
    parser_classes = (StrictJSONParser, FormParser)

    @extend_schema(
        operation_id="tokens_revoke",
        request={
            "application/x-www-form-urlencoded": PresentedRequest,
            "application/json": PresentedRequest,
        },
        responses={200: OpenApiResponse(description="It is ended, or was no token of ours.")},
        auth=[],
    )
    def post(self, request: Request) -> Response:
        """Revoke the token given, and all that were narrowed from it; never what it came from."""
        refuse_token_in_url(request.query_params)
        services.revoke_presented(text=_presented(request))
        return Response(status=200, headers=_NOT_KEPT)


@permitted(POST="account.prove")
class IntrospectView(APIView):
    """What a token is good for (RFC 7662)."""

    parser_classes = (StrictJSONParser, FormParser)

    @extend_schema(
        operation_id="tokens_introspect",
        request={
            "application/x-www-form-urlencoded": PresentedRequest,
            "application/json": PresentedRequest,
        },
        responses=IntrospectionDocument,
    )
    def post(self, request: Request) -> Response:
        """Told to the token's account and to the token itself; all others get `active: false`."""
        found = services.introspect(text=_presented(request), caller=viewer_of(request))
        return Response(found, headers=_NOT_KEPT)


def as_document(token: Token) -> dict[str, Any]:
    """A row of ``queries.tokens_of`` as JSON."""
    meter = token.meter
    calls = spend = None
    if meter.calls_limit is not None:
        calls = {"limit": meter.calls_limit, "used": meter.calls_used}
    if meter.spend_limit_base_units is not None:
        spend = {
            "limit": amount_document(int(meter.spend_limit_base_units)),
            "used": amount_document(int(meter.spent_base_units)),
        }
    return {
        "id": str(token.pk),
        "name": token.name,
        "kind": token.kind,
        "actions": token.actions,
        "model_scope": token.model_scope,
        "models": token.models_allowed,
        "ip_ranges": token.ip_ranges,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
        "last_used_at": token.last_used_at,
        "state": token.state,  # type: ignore[attr-defined]
        "rotated_from": None if token.rotated_from_id is None else str(token.rotated_from_id),
        "limits": {"calls": calls, "spend": spend},
        "narrowings": token.narrowing_count,  # type: ignore[attr-defined]
    }


def _created(caller: Caller, token: Token, text: str) -> Response:
    document = as_document(queries.token_of(caller.address, token.pk))
    where = reverse("api-token", args=[token.pk])
    return Response(
        {**document, "token": text}, status=201, headers={**_NOT_KEPT, "Location": where}
    )


def _presented(request: Request) -> str:
    given = request.data
    text = given.get("token") if isinstance(given, Mapping) else None
    if not isinstance(text, str) or not text:
        raise Problem(
            "invalid-request",
            "The body has no field `token`.",
            remedy="Send token=… as a form, or as JSON.",
            extra={"error": "invalid_request"},
        )
    return text.strip()


def _read(reader: Callable[[str], Value], text: str) -> Value:
    try:
        return reader(text)
    except ValueError as error:
        raise serializers.ValidationError(str(error)) from None
