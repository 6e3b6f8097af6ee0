"""Pages of the second factor: setting it up, showing it, removing it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from inframind.identity import second_factor
from inframind.identity.authority import permitted
from inframind.identity.forms import CodeForm, FirstCodeForm
from inframind.identity.models import Wallet
from inframind.identity.pages import account_page, next_of, part, wallet_of
from inframind.identity.sessions import signed_in_lately
from inframind.lib.problem import Problem

_page = require_http_methods(["GET", "HEAD", "POST"])


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def overview(request: HttpRequest) -> HttpResponse:
    """Without a second factor: how to set it up, on POST the first code; only for who has just
    signed in, since it opens what a stolen session must not. With one: its state."""
    wallet = wallet_of(request)
    if second_factor.factor_of(wallet) is not None:
        return _state_page(request, wallet)
    if not signed_in_lately(request):
        return _sign_in_first(request, wallet)
    form = FirstCodeForm(request.POST if request.method == "POST" else None)
    status = 422 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        try:
            device, codes = second_factor.confirm(wallet=wallet, code=form.cleaned_data["code"])
        except Problem as problem:
            status = _refuse(form, problem)
        else:
            second_factor.mark_verified(request, device)
            return _codes_page(request, codes, is_new=True)
    return part(
        request,
        "identity/account/second_factor_new.html",
        {
            "enrolment": second_factor.begin(wallet=wallet),
            "form": form,
            "next": next_of(request, ""),
        },
        tab="second-factor",
        title="Set up a second factor",
        status=status,
    )


@permitted(POST="account.manage")
@require_POST
@account_page
def recovery(request: HttpRequest) -> HttpResponse:
    """Ten new recovery codes for one fresh code."""
    wallet = wallet_of(request)
    form, status = _checked(request, wallet)
    if form.errors:
        return _state_page(request, wallet, recovery_form=form, status=status)
    return _codes_page(request, second_factor.renew_recovery_codes(wallet=wallet), is_new=False)


@permitted(POST="account.manage")
@require_POST
@account_page
def remove(request: HttpRequest) -> HttpResponse:
    """Ends the second factor for one fresh code."""
    wallet = wallet_of(request)
    form, status = _checked(request, wallet)
    if form.errors:
        return _state_page(request, wallet, remove_form=form, status=status)
    second_factor.remove(wallet=wallet)
    messages.success(request, "The second factor is removed, with its recovery codes.")
    return redirect("account-second-factor")


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def verify(request: HttpRequest) -> HttpResponse:
    """Asks for the second factor before what needs it, and goes on to ``next``."""
    wallet = wallet_of(request)
    target = next_of(request, "/account/second-factor")
    if second_factor.factor_of(wallet) is None:
        return redirect("account-second-factor")
    if second_factor.is_verified(request):
        return redirect(target)
    form, status = CodeForm(), 200
    if request.method == "POST":
        form = CodeForm(request.POST)
        status = 422
        if form.is_valid():
            try:
                device = second_factor.check(wallet=wallet, code=form.cleaned_data["code"])
            except Problem as problem:
                status = _refuse(form, problem)
            else:
                second_factor.mark_verified(request, device)
                return redirect(target)
    return part(
        request,
        "identity/account/verify.html",
        {"form": form, "next": target},
        tab="second-factor",
        title="Show your second factor",
        status=status,
    )


def _sign_in_first(request: HttpRequest, wallet: Wallet) -> HttpResponse:
    back = reverse("account-second-factor")
    if target := next_of(request, ""):
        back = f"{back}?{urlencode({'next': target})}"
    return part(
        request,
        "identity/account/second_factor_new.html",
        {"sign_in_url": f"/signin?{urlencode({'address': wallet.pk, 'next': back})}"},
        tab="second-factor",
        title="Set up a second factor",
        status=403 if request.method == "POST" else 200,
    )


def _checked(request: HttpRequest, wallet: Wallet) -> tuple[CodeForm, int]:
    """The form, with errors unless its code is right, and the status to answer with."""
    form = CodeForm(request.POST)
    if not form.is_valid():
        return form, 422
    try:
        second_factor.check(wallet=wallet, code=form.cleaned_data["code"])
    except Problem as problem:
        return form, _refuse(form, problem)
    return form, 200


def _refuse(form: CodeForm, problem: Problem) -> int:
    form.add_error("code", f"{problem.detail} {problem.remedy}".strip())
    return problem.status


def _state_page(
    request: HttpRequest,
    wallet: Wallet,
    *,
    recovery_form: CodeForm | None = None,
    remove_form: CodeForm | None = None,
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {
        "factor": second_factor.factor_of(wallet),
        "codes_left": second_factor.recovery_codes_left(wallet),
        "is_verified": second_factor.is_verified(request),
        # Two forms of one kind on a page: their fields need ids of their own.
        "recovery_form": recovery_form or CodeForm(auto_id="recovery_%s"),
        "remove_form": remove_form or CodeForm(auto_id="remove_%s"),
    }
    for name, form in (("recovery", recovery_form), ("remove", remove_form)):
        if form is not None:
            form.auto_id = f"{name}_%s"
    return part(
        request,
        "identity/account/second_factor.html",
        context,
        tab="second-factor",
        title="Second factor",
        status=status,
    )


def _codes_page(request: HttpRequest, codes: list[str], *, is_new: bool) -> HttpResponse:
    return part(
        request,
        "identity/account/recovery_codes.html",
        {
            "codes": codes,
            "text": "\n".join(codes),
            "is_new": is_new,
            "next": next_of(request, ""),
        },
        tab="second-factor",
        title="Recovery codes",
    )
