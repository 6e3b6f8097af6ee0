"""The books in the admin portal, to read. Money is moved by services only."""

from __future__ import annotations

from django.contrib import admin

from billing.ledger.models import Account, Hold, HoldEnding, Lease, Transfer
from inframind.identity.admin_site import ReadOnly


@admin.register(Account)
class AccountAdmin(ReadOnly):
    list_display = [
        "code",
        "kind",
        "posted_base_units",
        "held_base_units",
        "leased_base_units",
        "charged_base_units",
        "day_limit_base_units",
        "created_at",
    ]
    list_filter = ["kind"]
    search_fields = ["code"]
    show_full_result_count = False


@admin.register(Transfer)
class TransferAdmin(ReadOnly):
    list_display = ["created_at", "debit", "credit", "amount_base_units", "reason", "subject"]
    list_filter = ["reason"]
    list_select_related = ["debit", "credit"]
    search_fields = ["=id", "=subject", "=debit__code", "=credit__code"]
    show_full_result_count = False


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    list_display = [
        "created_at",
        "debit",
        "credit",
        "amount_base_units",
        "remaining_base_units",
        "reason",
        "subject",
        "expires_at",
    ]
    list_filter = ["reason"]
    list_select_related = ["debit", "credit"]
    search_fields = ["=id", "=subject", "=debit__code", "=credit__code"]
    show_full_result_count = False


@admin.register(HoldEnding)
class HoldEndingAdmin(ReadOnly):
    list_display = ["created_at", "hold_id", "kind", "amount_base_units", "transfer_id"]
    list_filter = ["kind"]
    search_fields = ["=hold__id", "=transfer__id"]
    show_full_result_count = False


@admin.register(Lease)
class LeaseAdmin(ReadOnly):
    list_display = [
        "account",
        "process",
        "amount_base_units",
        "spent_base_units",
        "day",
        "expires_at",
        "created_at",
    ]
    list_select_related = ["account"]
    search_fields = ["=account__code", "process"]
    show_full_result_count = False
