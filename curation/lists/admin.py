"""Staff's view of the shelves: read only, since they are computed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from curation.lists.models import ShelfEntry


@admin.register(ShelfEntry)
class ShelfEntryAdmin(admin.ModelAdmin[ShelfEntry]):
    list_display = ["shelf", "position", "model", "score", "computed_at"]
    list_filter = ["shelf"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
