"""How the REST API learns who is asking, and asks the table before any view does anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.http import QueryDict
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from inframind.identity import authority, queries
from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib import bearer
from inframind.lib.problem import Problem

if TYPE_CHECKING:
    # Its module reads the settings, which name the classes here.
    from rest_framework.views import APIView


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


def refuse_token_in_url(query: QueryDict) -> None:
    """Raises a 401 ``Problem`` when the query string has a token, whatever the field is called."""
    refuse_token_in((name, text) for name, texts in query.lists() for text in texts or [""])


def refuse_token_in(fields: Iterable[tuple[str, str]]) -> None:
    """As ``refuse_token_in_url``, of the names and texts of a query string."""
    if any(
        name.lower() in ("token", "access_token")
        or (text.startswith(bearer.PREFIX) and len(text) >= bearer.LENGTH)
        for name, text in fields
    ):
        raise Problem(
            "token-in-url",
            "A token in an address ends up in logs and histories, so it is refused here.",
            status=401,
            remedy="Send it as `Authorization: Bearer …`, and revoke the one you sent.",
            headers={"WWW-Authenticate": 'Bearer realm="inframind"'},
        )


def bearer_of_request(request: Request) -> str | None:
    """The token that a request carries, not yet checked. Raises a 401 ``Problem``."""
    refuse_token_in_url(request.query_params)
    return bearer_of(request.headers.get("Authorization", ""))


class BearerAuthentication(BaseAuthentication):
    """``request.user`` becomes the wallet, ``request.auth`` the ``Caller`` with its scopes."""

    def authenticate(self, request: Request) -> tuple[Wallet, Caller] | None:
        token = bearer_of_request(request)
        if token is None:
            return None
        caller = queries.authenticate(token, request.META.get("REMOTE_ADDR", ""))
        return Wallet.objects.get(pk=caller.address), caller

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="inframind"'


class ByTheTable(BasePermission):
    """The default of all views; one that declares nothing answers nobody."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """True, or a ``Problem`` 401 or 403 before the body is read or a name looked up."""
        if request.method == "OPTIONS":
            return True
        method = "GET" if request.method == "HEAD" else str(request.method)
        if not hasattr(view, method.lower()):
            return True  # the 405 that follows is the same for everybody
        try:
            permission = view.permissions[method]  # type: ignore[attr-defined]
        except (AttributeError, KeyError):
            raise ImproperlyConfigured(
                f"{type(view).__name__} does not say which permission {method} asks for."
            ) from None
        authority.admit(viewer_of(request), permission, name=view.kwargs.get("name"))
        return True


def viewer_of(request: Request) -> Caller | None:
    """Who asks, by their token; None for a stranger."""
    return request.auth if isinstance(request.auth, Caller) else None


def caller_of(request: Request) -> Caller:
    """The caller, whom the table let in already. Raises a 401 ``Problem`` without a token."""
    caller = viewer_of(request)
    if caller is None:
        raise queries.token_required("This needs a token.")
    return caller


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "infra_…"}
