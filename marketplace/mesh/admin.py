"""Staff's view of the mesh: trust and suspension are decided here."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from inframind.identity.admin_site import ReadOnly, Reasoned
from marketplace.mesh.models import Node, NodeGrant, Pin, Placement, Probe


@admin.register(Node)
class NodeAdmin(Reasoned):
    list_display = ["name", "endpoint", "state", "trusted", "accepts_publisher_code", "probed_at"]
    list_filter = ["state", "trusted", "accepts_publisher_code"]
    search_fields = ["name", "endpoint", "operator__address"]
    exclude = ["control_secret_sealed"]
    readonly_fields = [
        "operator",
        "endpoint",
        "control_header",
        "failures_in_a_row",
        "probed_at",
        "ready_at",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A node comes by its operator's proof or from the settings, not by hand.
        return False


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
