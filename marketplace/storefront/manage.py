"""What the owner of a model does on its page: access, requests, nodes, versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from inframind.identity.authority import permitted
from inframind.identity.forms import PageForm
from inframind.identity.models import Wallet
from inframind.identity.pages import Tab, page_or_part
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem
from marketplace.catalog import access, access_requests, groups, lifecycle, services
from marketplace.catalog import queries as catalog
from marketplace.catalog.models import Model, Version
from marketplace.mesh import queries as mesh
from marketplace.mesh.services import name_node, unname_node
from marketplace.storefront import forms
from marketplace.storefront.model_page import model_context
from marketplace.storefront.pages import not_an_act, page_view, paged, viewer_of

SECTIONS: Final = {
    "access": "Access",
    "requests": "Requests",
    "nodes": "Nodes",
    "versions": "Versions",
}
_SHOWN_CHANGES: Final = 20
_VERDICTS: Final = {"approve": "approved", "refuse": "refused"}


@dataclass
class Turn:
    """One visit: who manages which version of which model, and what went wrong."""

    request: HttpRequest
    model: Model
    version: Version
    wallet: Wallet
    problem: Problem | None = None
    bound: dict[str, PageForm] | None = None

    def form(self, key: str, fresh: Callable[[], PageForm]) -> PageForm:
        """The form as it was sent, or a fresh one."""
        sent = (self.bound or {}).get(key)
        return fresh() if sent is None else sent

    def sent(self, key: str, form: PageForm) -> Any:
        """The form if it can be used; else it is kept, to be shown with its errors."""
        self.bound = {key: form}
        return form if form.is_valid() else None


@permitted(GET="model.manage", POST="model.manage")
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@page_view
def manage(request: HttpRequest, name: str) -> HttpResponse:
    """The owner's tab; a POST does one thing, and answers with the page that shows it done."""
    caller = viewer_of(request)
    model = access.managed(name, caller)
    number = request.GET.get("version") or None
    version = catalog.get_version(name, number, viewer=caller)
    section = request.GET.get("section", "access")
    section = section if section in SECTIONS else "access"
    turn = Turn(request, model, version, Wallet.objects.get(pk=request.user.pk))
    status = 200
    if request.method == "POST":
        act = _ACTS.get(request.POST.get("do", ""))
        try:
            if act is None:
                raise not_an_act()
            done = act(turn)
        except Problem as problem:
            done, turn.problem = "", problem
            for form in (turn.bound or {}).values():
                form.refused(problem)
        if done:
            messages.success(request, done)
            return redirect(request.get_full_path())
        status = turn.problem.status if turn.problem else 422
    context = {
        **model_context(version, request, tab="manage"),
        "section": section,
        "sections": [
            Tab(key, word, _url(version, key), key == section, _count(key, model))
            for key, word in SECTIONS.items()
        ],
        "section_template": f"storefront/tabs/manage_{section}.html",
        "act_url": _url(version, section),
        "problem": turn.problem if not turn.bound else None,
        **_BUILDERS[section](turn),
    }
    return page_or_part(request, "storefront/model.html", "body", context, status=status)


def _url(version: Version, section: str) -> str:
    query = {} if section == "access" else {"section": section}
    if version.pk != version.model.current_id:
        query["version"] = version.number
    path = f"/models/{version.model_id}/manage"
    return f"{path}?{urlencode(query)}" if query else path


def _count(section: str, model: Model) -> int | None:
    return (access_requests.open_requests(model) or None) if section == "requests" else None


def policy_key(model: Model) -> str:
    """The model's policy as ``forms.POLICIES`` calls it."""
    if not model.public:
        return "private"
    if model.restricted:
        return "listed"
    return "gated" if model.auth_required else "open"


def _access(turn: Turn) -> dict[str, Any]:
    readable = access.readable_versions(turn.model)
    return {
        "policy_words": access.policy_words(turn.model),
        "policy_form": turn.form(
            "policy", lambda: forms.PolicyForm(initial={"policy": policy_key(turn.model)})
        ),
        "allow_form": turn.form("allow", forms.AllowForm),
        "import_form": turn.form("import", forms.ImportForm),
        "guests": paged(turn.request, access.entries_of(turn.model)),
        "readable": "" if turn.model.public else access.readable_words(readable),
        "readable_if_private": readable if turn.model.public else 0,
        "sealed": 0 if turn.model.public else access.sealed_versions(turn.model),
        "history": access.history(turn.model, length=_SHOWN_CHANGES),
        "group_names": [group.name for group in groups.groups_of(turn.wallet.pk)],
    }


def _requests(turn: Turn) -> dict[str, Any]:
    found = access_requests.requests_for(turn.model)[: access.HISTORY_LENGTH]
    waiting = [each for each in found if each.state == access_requests.State.OPEN]
    sent = turn.request.POST.get("request", "")
    return {
        "waiting": [
            (
                each,
                turn.form("decide", forms.DecisionForm)
                if str(each.pk) == sent
                else forms.DecisionForm(auto_id=f"id_{each.pk}_%s"),
            )
            for each in waiting
        ],
        "decided": [each for each in found if each.state != access_requests.State.OPEN],
    }


def _nodes(turn: Turn) -> dict[str, Any]:
    named = set(mesh.named_nodes(turn.model))
    nodes = mesh.nodes()
    return {
        "named": [node for node in nodes if node.name in named],
        "trusted": [node for node in nodes if node.trusted],
        "own": [node for node in nodes if node.operator_id == turn.wallet.pk],
        "node_form": turn.form("node", forms.NodeForm),
    }


def _versions(turn: Turn) -> dict[str, Any]:
    version = turn.version
    return {
        "versions": [
            (each, f"{_url(each, 'versions')}", each.pk == version.pk)
            for each in _with_model(catalog.versions_of(turn.model), turn.model)
        ],
        "can_deprecate": version.state in lifecycle.CALLABLE,
        "deprecate_form": turn.form(
            "deprecate", lambda: forms.DeprecateForm(initial=_standing(version))
        ),
        "terms_form": turn.form(
            "terms",
            lambda: forms.TermsForm(
                initial={
                    "per_request_fee": format_ifm(int(version.fee_base_units)),
                    "payout_address": version.payout_address,
                    "expires_at": _end(version.expires_at),
                }
            ),
        ),
        "terms_history": version.terms_history.all()[:20],
    }


def _standing(version: Version) -> dict[str, str]:
    if version.state != lifecycle.DEPRECATED:
        return {}
    return {
        "successor": str(version.successor or ""),
        "sunset_at": _end(version.sunset_at),
        "reason": version.state_reason,
    }


def _end(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


def _with_model(versions: list[Version], model: Model) -> list[Version]:
    for version in versions:
        version.model = model
    return versions


_BUILDERS: Final[dict[str, Callable[[Turn], dict[str, Any]]]] = {
    "access": _access,
    "requests": _requests,
    "nodes": _nodes,
    "versions": _versions,
}


def _do_policy(turn: Turn) -> str:
    form = turn.sent("policy", forms.PolicyForm(turn.request.POST))
    if form is None:
        return ""
    policy = services.change_access(
        model=turn.model,
        **form.flags(),
        reason=form.cleaned_data["reason"],
        changed_by=turn.wallet,
    )
    return f"Changed. {access.policy_words(policy)}"


def _do_allow(turn: Turn) -> str:
    form = turn.sent("allow", forms.AllowForm(turn.request.POST))
    return "" if form is None else _allow(turn, [form.guest()])


def _do_import(turn: Turn) -> str:
    form = turn.sent("import", forms.ImportForm(turn.request.POST, turn.request.FILES))
    return "" if form is None else _allow(turn, form.guests())


def _allow(turn: Turn, guests: list[access.Guest]) -> str:
    outcome = services.allow(model=turn.model, guests=guests, changed_by=turn.wallet)
    return (
        f"Let in: {outcome.added} new, {outcome.changed} changed, {outcome.unchanged} as they "
        "stood."
    )


def _do_remove(turn: Turn) -> str:
    who = turn.request.POST.get("who", "")
    services.remove(model=turn.model, who=who, changed_by=turn.wallet)
    return f"{who} is off the list, from the next call on."


def _do_decide(turn: Turn) -> str:
    post = turn.request.POST
    form = turn.sent("decide", forms.DecisionForm(post))
    state = _VERDICTS.get(post.get("verdict", ""))
    try:
        request_id = UUID(post.get("request", ""))
    except ValueError:
        state = None
    if state is None:
        turn.bound = None
        raise not_an_act()
    if form is None:
        return ""
    given = form.cleaned_data
    decided = services.decide(
        model=turn.model,
        request_id=request_id,
        state=state,
        answer=given["answer"],
        tell=given["tell"],
        expires_at=given["ends"],
        decided_by=turn.wallet,
    )
    if state == "approved":
        return f"{decided.wallet_id} is on the list."
    told = "and is told so" if given["tell"] else "and is not told"
    return f"{decided.wallet_id} was refused, {told}."


def _do_name_node(turn: Turn) -> str:
    form = turn.sent("node", forms.NodeForm(turn.request.POST))
    if form is None:
        return ""
    node = form.cleaned_data["node"].strip()
    name_node(owner=turn.wallet.pk, model_name=turn.model.pk, node_name=node)
    return f"Private versions may go to {node}."


def _do_unname_node(turn: Turn) -> str:
    node = turn.request.POST.get("node", "")
    unname_node(owner=turn.wallet.pk, model_name=turn.model.pk, node_name=node)
    return f"Nothing private goes to {node} any more; what is there is unloaded."


def _do_deprecate(turn: Turn) -> str:
    form = turn.sent("deprecate", forms.DeprecateForm(turn.request.POST))
    if form is None:
        return ""
    given = form.cleaned_data
    services.deprecate(
        version=turn.version,
        successor=catalog.find_successor(turn.model, given["successor"], viewer_of(turn.request)),
        sunset_at=given["sunset_at"],
        reason=given["reason"],
    )
    return f"{turn.version} is deprecated. It still answers."


def _do_terms(turn: Turn) -> str:
    form = turn.sent("terms", forms.TermsForm(turn.request.POST))
    if form is None:
        return ""
    given = form.cleaned_data
    services.change_terms(
        version=turn.version,
        fee_base_units=given["per_request_fee"],
        payout_address=given["payout_address"],
        expires_at=given["expires_at"],
        reason=given["reason"],
        changed_by=turn.wallet,
    )
    return f"The terms of {turn.version} are changed, from the next call on."


_ACTS: Final[dict[str, Callable[[Turn], str]]] = {
    "policy": _do_policy,
    "allow": _do_allow,
    "import": _do_import,
    "remove": _do_remove,
    "decide": _do_decide,
    "name-node": _do_name_node,
    "unname-node": _do_unname_node,
    "deprecate": _do_deprecate,
    "terms": _do_terms,
}
