"""Pages of the account about access: one's groups, asking for access, and what one asked for."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from inframind.identity.authority import admit, permitted
from inframind.identity.pages import account_page, part, wallet_of
from inframind.lib.problem import Problem
from marketplace.catalog import access_requests, groups, services
from marketplace.storefront import forms
from marketplace.storefront.pages import not_an_act, paged, viewer_of

_page = require_http_methods(["GET", "HEAD", "POST"])


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def groups_page(request: HttpRequest) -> HttpResponse:
    """The wallet's groups; a POST makes one."""
    admit(viewer_of(request), "account.manage")
    wallet = wallet_of(request)
    form = forms.GroupForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            group = services.create_group(owner=wallet, name=form.cleaned_data["name"])
        except Problem as problem:
            form.refused(problem)
        else:
            messages.success(request, f"The group {group.name} is made. Put wallets into it.")
            return redirect("storefront:group", group=group.name)
    return part(
        request,
        "storefront/groups.html",
        {"groups": groups.groups_of(wallet.pk), "form": form},
        tab="groups",
        title="Groups",
        status=422 if form.errors else 200,
    )


@permitted(GET="account.manage", POST="account.manage")
@_page
@account_page
def group_page(request: HttpRequest, group: str) -> HttpResponse:
    """One group; a POST adds, imports, removes, or deletes it."""
    admit(viewer_of(request), "account.manage")
    wallet = wallet_of(request)
    found = groups.group_of(wallet.pk, group)
    allow, many, problem = forms.MemberForm(), forms.ImportForm(), None
    status = 200
    if request.method == "POST":
        do = request.POST.get("do", "")
        if do == "allow":
            allow = forms.MemberForm(request.POST)
        elif do == "import":
            many = forms.ImportForm(request.POST, request.FILES)
        try:
            done = _act(request, group, do, allow if do == "allow" else many)
        except Problem as refused:
            done, problem = "", refused
            if do in ("allow", "import"):
                (allow if do == "allow" else many).refused(refused)
        if done:
            messages.success(request, done)
            if do == "delete":
                return redirect("storefront:groups")
            return redirect(request.get_full_path())
        status = problem.status if problem else 422
    return part(
        request,
        "storefront/group.html",
        {
            "group": found,
            "members": paged(request, groups.members_of(found)),
            "lists": groups.lists_of(found),
            "allow_form": allow,
            "import_form": many,
            "problem": problem if problem and not (allow.errors or many.errors) else None,
        },
        tab="groups",
        title=f"Group {found.name}",
        status=status,
    )


def _act(request: HttpRequest, group: str, do: str, form: Any) -> str:
    wallet = wallet_of(request)
    if do == "delete":
        services.delete_group(owner=wallet, name=group)
        return f"The group {group} is gone. Whoever was let in by it alone is out."
    if do == "remove":
        address = request.POST.get("who", "")
        services.remove_member(owner=wallet, name=group, address=address)
        return f"{address} left the group, from the next call on."
    if do not in ("allow", "import"):
        raise not_an_act()
    if not form.is_valid():
        return ""
    guests = [form.guest()] if do == "allow" else form.guests()
    outcome = services.add_members(
        owner=wallet,
        name=group,
        members=[
            groups.Member(each.address or f"@{each.group}", each.expires_at, each.note)
            for each in guests
        ],
    )
    return (
        f"In the group: {outcome.added} new, {outcome.changed} changed, {outcome.unchanged} as "
        "they stood."
    )


@permitted(POST="access.ask")
@require_POST
@account_page
def ask(request: HttpRequest, name: str) -> HttpResponse:
    """Leave a request for the owner of a name; the answer is the same for every name."""
    admit(viewer_of(request), "access.ask")
    services.ask(wallet=wallet_of(request), name=name, message=request.POST.get("message", ""))
    messages.success(request, access_requests.ASKED)
    return redirect("storefront:asked")


@permitted(GET="account.manage")
@require_safe
@account_page
def asked(request: HttpRequest) -> HttpResponse:
    """What the wallet asked for."""
    admit(viewer_of(request), "account.manage")
    return part(
        request,
        "storefront/asked.html",
        {"asked": access_requests.asked_by(wallet_of(request).pk)},
        tab="asked",
        title="Access that you asked for",
    )
