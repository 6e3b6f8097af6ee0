"""Pages of identity: signing in with a wallet, and out again."""

from __future__ import annotations

from secrets import token_urlsafe
from typing import Any, Final

from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from inframind.identity import signin
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.identity.sessions import note_sign_in
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem

# The browser's own secret while it signs in: a message that somebody else asked for is refused.
BROWSER_COOKIE: Final = "signin"
_MAX_NEXT_CHARACTERS: Final = 2_000
# After these the message that stands on the page is as good as before.
_SAME_MESSAGE: Final = ("signature-invalid", "chain-unavailable", "too-many-requests")


@permitted(GET="account.prove", POST="account.prove")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """First whose wallet, then its message; POST takes the signature."""
    if request.method == "POST":
        return _take_signature(request)
    address = request.GET.get("address", "").strip()
    page = _Page(request, request.GET)
    if not address:
        return page.show({})
    try:
        address = checksum_address(address)
    except ValueError as error:
        return page.show({"typed": address, "address_error": str(error)}, status=422)
    return page.with_message(address)


@permitted(POST="account.prove")
@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """Ends this browser's session."""
    auth.logout(request)
    return redirect(own_path(request.POST.get("next", ""), otherwise="/"))


def own_path(path: str, *, otherwise: str) -> str:
    """The path where it leads to a page of ours, else ``otherwise``."""
    ours = (
        path.startswith("/")
        and len(path) <= _MAX_NEXT_CHARACTERS
        and path.isprintable()
        and url_has_allowed_host_and_scheme(path, allowed_hosts=None)
    )
    return path if ours else otherwise


def _take_signature(request: HttpRequest) -> HttpResponse:
    page = _Page(request, request.POST)
    # A form is sent with CR LF, whatever the field had.
    message = request.POST.get("message", "").replace("\r\n", "\n")
    try:
        address = checksum_address(request.POST.get("address", ""))
    except ValueError as error:
        return page.show({"address_error": str(error)}, status=422)
    try:
        signin.sign_in(
            message=message,
            signature=request.POST.get("signature", "").strip(),
            yields=lambda wallet: _open_session(request, wallet),
            remote_address=_remote_address(request),
            browser=page.browser or _nobody(),
        )
    except Problem as problem:
        if problem.code in _SAME_MESSAGE:
            return page.show({"address": address, "message": message, "problem": problem})
        return page.with_message(address, problem)
    return redirect(page.next)


def _open_session(request: HttpRequest, wallet: Wallet) -> None:
    """A session of its own, whatever this browser had before: neither its key nor a second factor
    that was shown in it is taken over."""
    request.session.flush()
    auth.login(request, wallet)
    note_sign_in(request)
    request.session.save()


class _Page:
    """The page with what it always needs. Each part of the flow shows it once."""

    def __init__(self, request: HttpRequest, given: QueryDict) -> None:
        self._request = request
        self.next = own_path(given.get("next", ""), otherwise="/account")
        self.browser = request.COOKIES.get(BROWSER_COOKIE, "")[:100]

    def with_message(self, address: str, problem: Problem | None = None) -> HttpResponse:
        """The page with a fresh message for this address, which only this browser can use."""
        browser = self.browser or token_urlsafe(32)
        try:
            row = signin.issue_nonce(remote_address=_remote_address(self._request), browser=browser)
        except Problem as refusal:
            return self.show({"typed": address, "problem": refusal})
        message = str(signin.message_for(row, address))
        response = self.show(
            {"address": address, "message": message, "problem": problem, "is_fresh": True}
        )
        response.set_cookie(
            BROWSER_COOKIE,
            browser,
            max_age=settings.SIGN_IN_NONCE_SECONDS,
            path="/signin",
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return response

    def show(self, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
        message = context.get("message", "")
        problem: Problem | None = context.get("problem")
        response = render(
            self._request,
            "identity/signin.html",
            {
                "next": self.next,
                "chain_id": settings.CHAIN_ID,
                "lifetime_minutes": settings.SIGN_IN_NONCE_SECONDS // 60,
                "command": f"infra login --sign - <<'END'\n{message}\nEND",
                **context,
            },
            status=problem.status if problem else status,
        )
        for name, value in problem.headers.items() if problem else ():
            response.headers[name] = value
        return response


def _nobody() -> str:
    """What a browser without its cookie is: one that was given no message."""
    return token_urlsafe(32)


def _remote_address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))
