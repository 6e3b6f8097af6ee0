"""What the tabs of a model's page show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from inframind.identity.pages import Tab
from inframind.lib.access import Role
from marketplace.catalog import queries as catalog
from marketplace.catalog.manifest import Manifest
from marketplace.catalog.models import Badge, Check, Version
from marketplace.catalog.visibility import roles_on
from marketplace.gateway import queries as gateway
from marketplace.gateway.queries import HourPoint
from marketplace.mesh import queries as mesh
from marketplace.mesh.models import Placement
from marketplace.storefront.cards import badges_of, calls_label
from marketplace.storefront.pages import viewer_of
from marketplace.storefront.schema_form import Field, filled, form_fields
from marketplace.storefront.snippets import snippets
from marketplace.storefront.tryit import Tried
from marketplace.storefront.uptime import uptime

TABS = {
    "overview": "Overview",
    "try-it": "Try it",
    "api": "API",
    "versions": "Versions",
    "diagnostics": "Diagnostics",
    "evidence": "Evidence",
}
EVIDENCE_OF = {
    Check.Kind.HASH: Badge.Kind.HASH_VERIFIED,
    Check.Kind.GENERATED: Badge.Kind.SCHEMA_VALIDATED,
    Check.Kind.STRUCTURED: Badge.Kind.AGENT_COMPATIBLE,
    Check.Kind.PRIVACY: Badge.Kind.PRIVACY_READY,
}


@dataclass(frozen=True)
class ExampleLink:
    """An example of the manifest that the form can load."""

    word: str
    url: str
    current: bool


def page_url(version: Version, tab: str = "overview", **more: str) -> str:
    """The address of a tab; the model's current version needs no number in it."""
    query = dict(more)
    if tab != "overview":
        query = {"tab": tab, **query}
    if version.pk != version.model.current_id:
        query["version"] = version.number
    path = f"/models/{version.model_id}"
    return f"{path}?{urlencode(query)}" if query else path


def _url_of(name: str, number: str) -> str:
    return f"/models/{name}?{urlencode({'version': number})}"


def _tab_url_of(version: Version, tab: str) -> str:
    """The same tab of another version; its number always stands in the address."""
    tabbed = {} if tab == "overview" else {"tab": tab}
    return f"/models/{version.model_id}?{urlencode({**tabbed, 'version': version.number})}"


def _manage_tab(version: Version, tab: str) -> Tab:
    query = "" if version.pk == version.model.current_id else f"?version={version.number}"
    url = f"/models/{version.model_id}/manage{query}"
    return Tab("manage", "Manage", url, tab == "manage", None)


def tab_of(request: HttpRequest) -> str:
    """The tab that the address names; the overview for anything unknown."""
    tab = request.GET.get("tab", "overview")
    return tab if tab in TABS else "overview"


def _example_index(request: HttpRequest, count: int) -> int | None:
    text = request.GET.get("example", "0")
    if text.isascii() and text.isdigit() and len(text) < 4 and int(text) < count:
        return int(text)
    return None


def blank_form(version: Version) -> tuple[Field, ...]:
    """The controls for the version's input schema."""
    return form_fields(version.manifest["input_schema"])


def _call_parts(version: Version, document: Any) -> dict[str, Any]:
    model = version.model
    number = "" if version.pk == model.current_id else f"@{version.number}"
    endpoint = f"{settings.SITE_URL}/inference/v1/{model.name}{number}"
    needs_token = model.auth_required or version.fee_base_units > 0
    return {
        "endpoint": endpoint,
        "needs_token": needs_token,
        "snippets": snippets(
            endpoint, document, needs_token=needs_token, streaming=version.streaming
        ),
    }


def _try_it(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    manifest = Manifest.model_validate(version.manifest)
    index = _example_index(request, len(manifest.examples))
    fields = blank_form(version)
    document: Any = {}
    if tried is not None:
        fields, document = tried.fields, tried.document
    elif index is not None:
        document = manifest.examples[index].input
        fields = filled(fields, document)
    return {
        "fields": fields,
        "has_file": any(field.kind == "file" for field in fields),
        "form_errors": sum(1 for field in fields if field.error),
        "answer": tried.answer if tried else None,
        "tried": tried,
        "input_document": document,
        "examples": [
            ExampleLink(
                example.name or f"example {place + 1}",
                page_url(version, "try-it", example=str(place)),
                tried is None and place == index,
            )
            for place, example in enumerate(manifest.examples)
        ],
        **_call_parts(version, document),
    }


def _api(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    manifest = Manifest.model_validate(version.manifest)
    document = manifest.examples[0].input if manifest.examples else {}
    return {
        "input_schema": version.manifest["input_schema"],
        "output_schema": version.manifest["output_schema"],
        "tensors": version.manifest.get("tensors"),
        "input_document": document,
        **_call_parts(version, document),
    }


def _seen_versions(version: Version, request: HttpRequest) -> list[Version]:
    """The versions that this reader may open: a pending one is its owner's alone."""
    is_owner = request.user.pk == version.model.owner_id
    return [
        each
        for each in catalog.versions_of(version.model)
        if is_owner or each.state != Version.State.PENDING
    ]


def _versions(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    return {
        "versions": [
            (each, _url_of(version.model_id, each.number), each.pk == version.pk)
            for each in _seen_versions(version, request)
        ]
    }


def _diagnostics(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    found = gateway.diagnostics(version.model_id, version.number)
    hours = found.hours
    up = uptime(version.pk)
    calls = [hour.calls for hour in hours]
    measured = [hour.p50_ms for hour in hours if hour.p50_ms is not None]
    return {
        "diagnostics": found,
        "placements": mesh.where_runs(version),
        "hourly_calls": calls,
        "calls_label": calls_label(calls),
        "calls_hints": [f"{hour.at:%H:%M} UTC: {_calls_words(hour)}" for hour in hours],
        "busiest": max(calls, default=0),
        "hourly_success": [hour.served / hour.calls if hour.calls else None for hour in hours],
        "hourly_p50": [hour.p50_ms for hour in hours],
        "slowest_ms": max(measured, default=None),
        "calls_24h": sum(calls),
        "hourly_up": [hour.share for hour in up],
        "up_hints": [
            f"{hour.at:%H:%M} UTC: {hour.answered} of {hour.probes} probes answered" for hour in up
        ],
        "probes_24h": sum(hour.probes for hour in up),
        "hours": [
            (hour, probed)
            for hour, probed in zip(hours, up, strict=True)
            if hour.calls or probed.probes
        ],
    }


def _calls_words(hour: HourPoint) -> str:
    words = f"{hour.calls} call{'' if hour.calls == 1 else 's'}"
    return f"{words}, {hour.served} served" if hour.calls else words


def _evidence(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    runs = [
        (run, [(check, EVIDENCE_OF.get(Check.Kind(check.kind))) for check in run.checks.all()])
        for run in catalog.verifications_of(version)
    ]
    return {"runs": runs}


def _overview(version: Version, request: HttpRequest, tried: Tried | None) -> dict[str, Any]:
    figures = gateway.figures_for([version.model_id]).get(version.model_id)
    label = calls_label(figures.hourly) if figures else ""
    return {"readme": version.readme, "figures": figures, "calls_label": label}


_BUILDERS: dict[str, Callable[[Version, HttpRequest, Tried | None], dict[str, Any]]] = {
    "overview": _overview,
    "try-it": _try_it,
    "api": _api,
    "versions": _versions,
    "diagnostics": _diagnostics,
    "evidence": _evidence,
}


def _runs_on(version: Version) -> list[Placement]:
    return [
        placement
        for placement in mesh.where_runs(version)
        if placement.state == Placement.State.READY and placement.node.state == "ready"
    ]


def _successor_words(version: Version) -> str:
    successor = version.successor
    if successor is None:
        return ""
    return successor.number if successor.model_id == version.model_id else str(successor)


def model_context(
    version: Version, request: HttpRequest, tried: Tried | None = None, tab: str = ""
) -> dict[str, Any]:
    """What `storefront/model.html` shows of a version: head, tabs, rail and the tab's own part.

    ``tab`` names one that stands at an address of its own, whose view adds its part.
    """
    tab = tab or ("try-it" if tried is not None else tab_of(request))
    roles = roles_on(viewer_of(request), version.model)
    is_owner = Role.OWNER in roles
    now = timezone.now()
    manifest = Manifest.model_validate(version.manifest)
    versions = _seen_versions(version, request)
    return {
        "tab": tab,
        "tab_template": f"storefront/tabs/{tab.replace('-', '_')}.html",
        "tabs": [
            Tab(
                key,
                word,
                page_url(version, key),
                key == tab,
                len(versions) if key == "versions" else None,
            )
            for key, word in TABS.items()
        ]
        + ([_manage_tab(version, tab)] if is_owner else []),
        "is_owner": is_owner,
        "invited": version.model.restricted and bool(roles),
        "model": version.model,
        "version": version,
        "switch": [
            (each, _tab_url_of(each, tab if tab in TABS else "overview"), each.pk == version.pk)
            for each in versions
        ],
        "is_current": version.pk == version.model.current_id,
        "current_url": f"/models/{version.model_id}",
        "badges": badges_of(version, now=now),
        "expired": version.expires_at is not None and version.expires_at <= now,
        "successor": _successor_words(version),
        "successor_url": (
            _url_of(version.successor.model_id, version.successor.number)
            if version.successor
            else ""
        ),
        "resources": manifest.resources,
        "runs_on": _runs_on(version),
        "price_base_units": int(version.fee_base_units),
        "package_url": f"/api/v1/models/{version.model_id}/versions/{version.number}/package",
        "try_url": page_url(version, "try-it"),
        **_call_parts(version, {}),
        **(_BUILDERS[tab](version, request, tried) if tab in _BUILDERS else {}),
    }
