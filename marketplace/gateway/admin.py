"""Staff's view of calls: to read, never to change."""

from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest

from marketplace.gateway.models import Call


@admin.register(Call)
class CallAdmin(admin.ModelAdmin[Call]):
    list_display = ["id", "version", "outcome", "node_name", "latency_us", "created_at"]
    list_filter = ["outcome"]
    list_select_related = ["version"]
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        return False
