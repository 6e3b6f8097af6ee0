"""REST of the account: signing in and out, who one is, where one is signed in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity import services, signin, whereabouts
from inframind.identity.api import bearer_of_request, caller_of
from inframind.identity.authority import permitted
from inframind.identity.caller import Caller
from inframind.identity.models import Token, Wallet
from inframind.identity.queries import recognise, token_of, token_required
from inframind.lib import siwe
from inframind.lib.problem import Problem


class SignInRequest(serializers.Serializer[Any]):
    message = serializers.CharField(max_length=siwe.MAX_CHARACTERS, trim_whitespace=False)
    signature = serializers.CharField(max_length=8_194)


class ProfileRequest(serializers.Serializer[Any]):
    display_name = serializers.CharField(
        max_length=services.NAME_MAX_CHARACTERS, allow_blank=True, trim_whitespace=False
    )


@permitted(POST="account.prove")
class NonceView(APIView):
    """A nonce for a sign-in message. It is good for one sign-in, for ten minutes."""

    authentication_classes = ()

    @extend_schema(operation_id="auth_nonce", request=None, responses={201: dict}, auth=[])
    def post(self, request: Request) -> Response:
        row = signin.issue_nonce(remote_address=_remote_address(request))
        where = signin.place()
        document = {
            "nonce": row.nonce,
            "domain": where.domain,
            "uri": where.uri,
            "version": "1",
            "chain_id": where.chain_id,
            "statement": signin.STATEMENT,
            "issued_at": siwe.rfc3339(row.created_at),
            "expires_at": siwe.rfc3339(row.expires_at),
        }
        return Response(document, status=201, headers={"Cache-Control": "no-store"})


@permitted(POST="account.prove")
class LoginView(APIView):
    """Sign in with a signed message (EIP-4361). The token in the answer is shown this once."""

    authentication_classes = ()

    @extend_schema(operation_id="auth_login", request=SignInRequest, responses={200: dict}, auth=[])
    def post(self, request: Request) -> Response:
        form = SignInRequest(data=request.data)
        form.is_valid(raise_exception=True)

        def mint(wallet: Wallet) -> tuple[Token, str]:
            return services.mint_token(
                wallet=wallet,
                name="infra login",
                actions=Token.Action.values,
                model_scope=Token.ModelScope.ANY,
                lifetime=timedelta(days=settings.LOGIN_TOKEN_DAYS),
                kind=Token.Kind.LOGIN,
                user_agent=request.headers.get("User-Agent", ""),
            )

        token, text = signin.sign_in(
            message=form.validated_data["message"],
            signature=form.validated_data["signature"],
            yields=mint,
            remote_address=_remote_address(request),
        )
        document = {
            "address": token.wallet_id,
            "token": text,
            "token_id": str(token.pk),
            "expires_at": siwe.rfc3339(token.expires_at),
        }
        return Response(document, headers={"Cache-Control": "no-store"})


@permitted(POST="account.see")
class LogoutView(APIView):
    """End the login that this request is made with. Scoped tokens are revoked under `tokens`."""

    @extend_schema(operation_id="auth_logout", request=None, responses={204: OpenApiResponse()})
    def post(self, request: Request) -> Response:
        token = _login_of(caller_of(request))
        if token is None:
            raise Problem(
                "not-a-login",
                "This is a scoped token, not a login.",
                status=409,
                remedy="End it with POST /api/v1/tokens/revoke.",
            )
        services.revoke_token(token_id=token.pk, wallet=token.wallet)
        return Response(status=204)


@permitted(GET="account.see", PATCH="account.manage")
class AccountView(APIView):
    """Whose token this is, and what it may do."""

    @extend_schema(operation_id="account_show", responses={200: dict})
    def get(self, request: Request) -> Response:
        return Response(_account_document(request, caller_of(request)))

    @extend_schema(operation_id="account_change", request=ProfileRequest, responses={200: dict})
    def patch(self, request: Request) -> Response:
        """Change the name that is shown beside the address. Empty: none."""
        caller = caller_of(request)
        form = ProfileRequest(data=request.data)
        form.is_valid(raise_exception=True)
        services.rename_wallet(
            wallet=_wallet(caller), display_name=form.validated_data["display_name"]
        )
        return Response(_account_document(request, caller))


@permitted(GET="account.manage", DELETE="account.manage")
class SessionsView(APIView):
    """Where the account is signed in: browsers, and programs by `infra login`."""

    @extend_schema(operation_id="account_sessions", responses={200: dict})
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        places = whereabouts.places_of(_wallet(caller), this="")
        return Response({"sessions": [_session_document(each, caller) for each in places]})

    @extend_schema(operation_id="account_sessions_end", responses={204: OpenApiResponse()})
    def delete(self, request: Request) -> Response:
        """Sign every browser and program out at once, this one included. Scoped tokens stay."""
        signin.end_every_session(wallet=_wallet(caller_of(request)))
        return Response(status=204)


@permitted(DELETE="account.manage")
class SessionView(APIView):
    """One place where the account is signed in."""

    @extend_schema(operation_id="account_session_end", responses={204: OpenApiResponse()})
    def delete(self, request: Request, session_id: str) -> Response:
        """Sign that browser or program out at once."""
        whereabouts.end_place(wallet=_wallet(caller_of(request)), place_id=session_id)
        return Response(status=204)


def _session_document(place: whereabouts.Place, caller: Caller) -> dict[str, Any]:
    return {
        "id": place.id,
        "kind": "browser" if place.is_browser else "login",
        "user_agent": place.user_agent,
        "remote_address": place.remote_address or None,
        "created_at": siwe.rfc3339(place.since),
        "last_used_at": siwe.rfc3339(place.last_seen_at),
        "expires_at": siwe.rfc3339(place.expires_at),
        "current": place.id == str(caller.token_id),
    }


def _account_document(request: Request, caller: Caller) -> dict[str, Any]:
    wallet = _wallet(caller)
    scope = recognise(bearer_of_request(request) or "").scope
    token = token_of(caller.address, _token_id(caller))
    return {
        "address": wallet.address,
        "display_name": wallet.display_name,
        "roles": sorted(role.value for role in caller.roles),
        "credential": {
            "kind": token.kind,
            "token_id": str(token.pk),
            "narrowing_id": str(caller.narrowing_id) if caller.narrowing_id else None,
            "name": token.name,
            "actions": sorted(scope.actions),
            "model_scope": _model_scope(caller),
            "models": sorted(scope.models or ()),
            "expires_at": siwe.rfc3339(datetime.fromtimestamp(scope.expires_at or 0, UTC)),
        },
    }


def _model_scope(caller: Caller) -> str:
    if caller.names is not None:
        return Token.ModelScope.NAMED.value
    return (Token.ModelScope.OWNED if caller.owned_only else Token.ModelScope.ANY).value


def _token_id(caller: Caller) -> UUID:
    if caller.token_id is None:
        raise token_required("This needs a token.")
    return caller.token_id


def _wallet(caller: Caller) -> Wallet:
    return Wallet.objects.get(pk=caller.address)


def _login_of(caller: Caller) -> Token | None:
    """The login that a caller presents itself; not one that was narrowed for somebody else."""
    if caller.token_id is None or caller.narrowing_id is not None:
        return None
    return (
        Token.objects.select_related("wallet")
        .filter(pk=caller.token_id, kind=Token.Kind.LOGIN)
        .first()
    )


def _remote_address(request: Request) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))
