"""Staff's view of the mesh: trust and suspension are decided here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import URLField
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path

from inframind.identity.admin_site import ReadOnly, Reasoned, may
from marketplace.mesh import services
from marketplace.mesh.models import Node, NodeGrant, Pin, Placement, Probe

_SUSPEND, _REINSTATE = "suspend", "reinstate"


@admin.register(Node)
class NodeAdmin(Reasoned):
    list_display = [
        "name",
        "endpoint",
        "state",
        "reputation_bps",
        "rated_calls",
        "paid_calls",
        "trusted",
        "accepts_publisher_code",
        "probed_at",
    ]
    list_filter = ["state", "paid_calls", "trusted", "accepts_publisher_code"]
    change_form_template = "admin/with_acts.html"
    search_fields = ["name", "endpoint", "operator__address"]
    exclude = ["control_secret_sealed"]
    formfield_overrides = {URLField: {"assume_scheme": "https"}}
    readonly_fields = [
        "operator",
        "endpoint",
        "control_header",
        "state",
        "state_reason",
        "failures_in_a_row",
        "reputation_bps",
        "success_bps",
        "sla_bps",
        "latency_bps",
        "rated_calls",
        "rated_at",
        "rated_since",
        "paid_calls",
        "probed_at",
        "ready_at",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A node comes by its operator's proof or from the settings, not by hand.
        return False

    def acts_of(self, request: HttpRequest, obj: Node) -> list[tuple[str, str]]:
        suspended = obj.state == Node.State.SUSPENDED
        return [("../review/", "Review the suspension" if suspended else "Suspend")]

    def get_urls(self) -> list[Any]:
        return [
            path(
                "<uuid:pk>/review/",
                self.admin_site.admin_view(self.review_view),
                name="mesh_node_review",
            ),
            *super().get_urls(),
        ]

    def review_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Takes a node out of service, or lets a suspended one serve again, for a reason."""
        node = Node.objects.filter(pk=pk).first()
        if node is None or not may(request, self.permission):
            raise Http404

        def act(verb: str, reason: str) -> None:
            if verb == _SUSPEND:
                services.suspend(node=node, reason=f"Suspended by staff: {reason}")
            else:
                services.reinstate(node=node)

        suspended = node.state == Node.State.SUSPENDED
        return self.act_page(
            request,
            node,
            title=f"Review {node}: {node.state_reason}" if suspended else f"Suspend {node}",
            verbs={_REINSTATE: "Let it serve again"} if suspended else {_SUSPEND: "Suspend"},
            act=act,
        )


@admin.register(NodeGrant)
class NodeGrantAdmin(ReadOnly):
    """Which node a model's owner named; only the owner decides it."""

    list_display = ["model", "node", "created_at"]
    list_select_related = ["model", "node"]


@admin.register(Placement)
class PlacementAdmin(Reasoned):
    list_display = ["version", "node", "state", "reason", "ready_at"]
    list_filter = ["state", "node"]
    list_select_related = ["version", "node"]
    readonly_fields = ["version", "node", "load_duration_ms", "ready_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Pin)
class PinAdmin(Reasoned):
    list_display = ["model", "source", "reason", "created_at", "ends_at"]
    list_filter = ["source"]
    raw_id_fields = ["model"]


@admin.register(Probe)
class ProbeAdmin(ReadOnly):
    list_display = ["node", "version", "ok", "latency_us", "detail", "created_at"]
    list_filter = ["ok", "node"]
    list_select_related = ["version", "node"]
