"""Pages of the account: overview, tokens, and where one is signed in."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.contrib.auth import logout
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inframind.identity import second_factor
from inframind.identity.authority import permitted
from inframind.identity.forms import NameForm, RotateForm, TokenForm
from inframind.identity.models import Seat, Token
from inframind.identity.pages import account_page, answers, part, wallet_of, wants_part
from inframind.identity.queries import caller_of_wallet, token_of, tokens_of
from inframind.identity.services import revoke_token, rotate_token
from inframind.identity.sessions import digest_of
from inframind.identity.whereabouts import end_other_places, end_place, places_of
from inframind.lib.access import Role
from inframind.lib.problem import Problem, not_found

_LISTED_MAX: Final = 500  # the newest; the API lists as many
_page = require_http_methods(["GET", "HEAD", "POST"])


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def overview(request: HttpRequest) -> HttpResponse:
    """Who one is here; a POST changes the name that is shown."""
    wallet = wallet_of(request)
    form = NameForm(initial={"display_name": wallet.display_name})
    if request.method == "POST":
        form = NameForm(request.POST)
        if form.is_valid() and form.save(wallet):
            messages.success(request, "Your name is saved.")
            return redirect("account")
    roles = caller_of_wallet(wallet.pk).roles
    seat = Seat.objects.filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=Now()), wallet=wallet, begins_at__lte=Now()
    ).first()
    places = places_of(wallet, this=_this(request))
    return part(
        request,
        "identity/account/overview.html",
        {
            "wallet": wallet,
            "form": form,
            "is_staff": Role.STAFF in roles,
            "seat": seat,
            "this": next((each for each in places if each.is_this), None),
            "place_count": len(places),
            "token_count": _scoped(wallet.pk).filter(state="active").count(),
            "has_second_factor": second_factor.factor_of(wallet) is not None,
            "usage_url": "/account/usage" if answers("/account/usage") else "",
        },
        tab="overview",
        title="Account",
        status=422 if form.errors else 200,
    )


@permitted(GET="account.manage")
@require_safe
@account_page
def tokens(request: HttpRequest) -> HttpResponse:
    """Every token of the wallet, with what is used of its limits."""
    return _tokens_page(request, {})


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def token_new(request: HttpRequest) -> HttpResponse:
    """The form; a POST answers with the token, which exists only in that answer."""
    form = TokenForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        made = form.save(wallet_of(request))
        if made is not None:
            return _tokens_page(request, _shown_once(*made), status=201)
    return part(
        request,
        "identity/account/token_new.html",
        {"form": form},
        tab="tokens",
        title="Make a token",
        status=422 if form.errors else 200,
    )


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def token_rotate(request: HttpRequest, token_id: UUID) -> HttpResponse:
    """A successor with the same scope and limits; the old one ends after the overlap."""
    wallet = wallet_of(request)
    token = _scoped_token(wallet.pk, token_id)
    form = RotateForm(request.POST if request.method == "POST" else None)
    status = 422 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        try:
            made = rotate_token(
                token_id=token_id, wallet=wallet, overlap=form.cleaned_data["overlap"]
            )
        except Problem as problem:
            form.refused(problem)
            status = problem.status
        else:
            context = {**_shown_once(*made), "overlap": form.cleaned_data["overlap"]}
            return _tokens_page(request, context, status=201)
    return part(
        request,
        "identity/account/token_rotate.html",
        {"token": token, "form": form},
        tab="tokens",
        title=f"Rotate {token.name}",
        status=status,
    )


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def token_revoke(request: HttpRequest, token_id: UUID) -> HttpResponse:
    """Asks, and on POST ends the token at once."""
    wallet = wallet_of(request)
    token = _scoped_token(wallet.pk, token_id)
    if request.method == "POST":
        revoke_token(token_id=token_id, wallet=wallet)
        messages.success(request, f"The token {token.name} is revoked. It works nowhere any more.")
        return redirect("account-tokens")
    return part(
        request,
        "identity/account/token_revoke.html",
        {"token": token},
        tab="tokens",
        title=f"Revoke {token.name}",
    )


@permitted(GET="account.manage")
@require_safe
@account_page
def sessions(request: HttpRequest) -> HttpResponse:
    """The browsers and programs that are signed in."""
    places = places_of(wallet_of(request), this=_this(request))
    return part(
        request,
        "identity/account/sessions.html",
        {"places": places, "others": sum(1 for each in places if not each.is_this)},
        tab="sessions",
        title="Sessions",
    )


@permitted(POST="account.manage")
@require_POST
@account_page
def session_end(request: HttpRequest, place_id: str) -> HttpResponse:
    """Signs one of them out."""
    if place_id == _this(request):
        logout(request)
        return redirect("/")
    end_place(wallet=wallet_of(request), place_id=place_id)
    messages.success(request, "Signed out there.")
    return redirect("account-sessions")


@permitted(POST="account.manage")
@require_POST
@account_page
def sessions_end_others(request: HttpRequest) -> HttpResponse:
    """Signs all but this browser out."""
    count = end_other_places(wallet=wallet_of(request), this=_this(request))
    ended = f"{count} other{'s' if count != 1 else ''} signed out." if count else "No others."
    messages.success(request, f"{ended} You are signed in here only. Tokens work on.")
    return redirect("account-sessions")


def _tokens_page(
    request: HttpRequest, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    found = list(_scoped(str(request.user.pk))[:_LISTED_MAX])
    response = part(
        request,
        "identity/account/tokens.html",
        {
            **context,
            "active": [each for each in found if _state(each) == "active"],
            "ended": [each for each in found if _state(each) != "active"],
        },
        tab="tokens",
        title="Tokens",
        status=status,
    )
    if request.method == "POST" and wants_part(request):
        # Else the address stays that of the form, and a reload shows an empty one.
        response.headers["HX-Replace-Url"] = reverse("account-tokens")
    return response


def _shown_once(token: Token, text: str) -> dict[str, Any]:
    return {
        "made": token,
        "text": text,
        "export_line": f"export INFRA_TOKEN={text}",
        "header_line": f"Authorization: Bearer {text}",
    }


def _scoped(address: str) -> Any:
    return tokens_of(address).filter(kind=Token.Kind.SCOPED)


def _scoped_token(address: str, token_id: UUID) -> Token:
    token = token_of(address, token_id)
    if token.kind != Token.Kind.SCOPED:
        raise not_found("token with this id")
    return token


def _state(token: Token) -> str:
    state: str = token.state  # type: ignore[attr-defined] # annotated by tokens_of
    return state


def _this(request: HttpRequest) -> str:
    return digest_of(request.session.session_key or "")
