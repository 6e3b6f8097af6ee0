"""Epochs in the admin portal: to read. Only closing writes them."""

from __future__ import annotations

from django.contrib import admin

from billing.epochs.models import Epoch, Line, Parameters, Standing, Stream
from inframind.identity.admin_site import ReadOnly


@admin.register(Epoch)
class EpochAdmin(ReadOnly):
    list_display = [
        "number",
        "state",
        "opened_at",
        "ends_at",
        "sealed_at",
        "receipt_count",
        "revenue_base_units",
        "total_base_units",
        "retired_at",
    ]
    list_filter = ["state"]


@admin.register(Parameters)
class ParametersAdmin(ReadOnly):
    list_display = [
        "version",
        "node_basis_points",
        "owner_basis_points",
        "epoch_seconds",
        "reason",
        "changed_by",
        "created_at",
    ]
    list_select_related = ["changed_by"]


@admin.register(Stream)
class StreamAdmin(ReadOnly):
    list_display = ["subject", "hex", "hidden", "created_at"]
    list_filter = ["hidden"]
    search_fields = ["subject"]


@admin.register(Line)
class LineAdmin(ReadOnly):
    list_display = [
        "epoch",
        "address",
        "stream",
        "share",
        "calls",
        "gross_base_units",
        "amount_base_units",
    ]
    list_filter = ["share"]
    list_select_related = ["epoch", "stream"]
    search_fields = ["address", "stream__subject"]


@admin.register(Standing)
class StandingAdmin(ReadOnly):
    list_display = ["address", "stream", "cumulative_base_units", "epoch"]
    list_select_related = ["epoch", "stream"]
    search_fields = ["address", "stream__subject"]
