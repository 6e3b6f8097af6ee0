"""Staff's view of wallets and tokens. There is nothing secret to see."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest

from inframind.identity.models import Token, Wallet

admin.site.site_header = "InfraMind"
admin.site.site_title = "InfraMind"
admin.site.index_title = "Staff"
admin.site.unregister(Group)


@admin.register(Wallet)
class WalletAdmin(admin.ModelAdmin[Wallet]):
    list_display = ["address", "display_name", "is_active", "is_staff", "created_at"]
    list_filter = ["is_active", "is_staff"]
    search_fields = ["address", "display_name"]
    readonly_fields = ["address", "created_at", "last_login"]
    fields = ["address", "display_name", "is_active", "is_staff", "created_at", "last_login"]

    def has_delete_permission(self, request: HttpRequest, obj: Wallet | None = None) -> bool:
        return False


@admin.register(Token)
class TokenAdmin(admin.ModelAdmin[Token]):
    list_display = ["id", "wallet", "name", "actions", "expires_at", "revoked_at", "last_used_at"]
    search_fields = ["id", "wallet__address", "name"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        return False
