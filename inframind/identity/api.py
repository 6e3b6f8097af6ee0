"""How the REST API learns who is asking."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from inframind.identity import queries
from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib.problem import Problem


def bearer_of(header: str) -> str | None:
    """The token of an ``Authorization`` header; None when there is no header.

    Raises a 401 ``Problem`` for a header that is not ``Bearer <token>``.
    """
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise queries.token_required("The Authorization header is not `Bearer <token>`.")
    return token.strip()


def bearer_of_request(request: Request) -> str | None:
    """The token that a request carries, not yet checked. Raises a 401 ``Problem``."""
    if "token" in request.query_params or "access_token" in request.query_params:
        raise Problem(
            "token-in-url",
            "A token in an address ends up in logs and histories, so it is refused here.",
            status=401,
            remedy="Send it as `Authorization: Bearer …`, and revoke the one you sent.",
            headers={"WWW-Authenticate": 'Bearer realm="inframind"'},
        )
    return bearer_of(request.headers.get("Authorization", ""))


class BearerAuthentication(BaseAuthentication):
    """``request.user`` becomes the wallet, ``request.auth`` the ``Caller`` with its scopes."""

    def authenticate(self, request: Request) -> tuple[Wallet, Caller] | None:
        token = bearer_of_request(request)
        if token is None:
            return None
        caller = queries.authenticate(token)
        return Wallet.objects.get(pk=caller.address), caller

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="inframind"'


def require_caller(request: Request, action: str, model: str | None = None) -> Caller:
    """The caller, allowed to do this. Raises 401 without a token, 403 with one that may not."""
    caller = request.auth
    if not isinstance(caller, Caller):
        raise queries.token_required("This needs a token.")
    caller.require(action, model)
    return caller


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "infra_…"}
