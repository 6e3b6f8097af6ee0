"""Staff's view of calls: to read, never to change."""

from __future__ import annotations

from django.contrib import admin

from inframind.identity.admin_site import ReadOnly
from marketplace.gateway.models import Call


@admin.register(Call)
class CallAdmin(ReadOnly):
    list_display = ["id", "version", "outcome", "node_name", "latency_us", "created_at"]
    list_filter = ["outcome"]
    list_select_related = ["version"]
    show_full_result_count = False
