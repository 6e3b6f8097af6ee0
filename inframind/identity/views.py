"""Pages of identity: the staff entry."""

from __future__ import annotations

from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from inframind.identity.entry import find


@never_cache
@require_http_methods(["GET", "POST"])
def staff_entry(request: HttpRequest, address: str, key: str) -> HttpResponse:
    """GET asks, POST enters: a link preview or a prefetch must not use up the link."""
    wallet = find(address, key)
    if wallet is None:
        return render(request, "identity/staff_entry.html", {"wallet": None}, status=404)
    if request.method == "POST":
        login(request, wallet, backend="django.contrib.auth.backends.ModelBackend")
        return redirect("admin:index")
    return render(request, "identity/staff_entry.html", {"wallet": wallet})
