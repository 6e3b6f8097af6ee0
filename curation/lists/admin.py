"""Staff's view of the shelves: read only, since they are computed."""

from __future__ import annotations

from django.contrib import admin

from curation.lists.models import ShelfEntry
from inframind.identity.admin_site import ReadOnly


@admin.register(ShelfEntry)
class ShelfEntryAdmin(ReadOnly):
    list_display = ["shelf", "position", "model", "score", "computed_at"]
    list_filter = ["shelf"]
