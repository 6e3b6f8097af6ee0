"""Chain and payouts in the admin portal, to read. What was seen and sent is history."""

from __future__ import annotations

from django.contrib import admin

from billing.payouts.models import (
    Cursor,
    Delegation,
    Event,
    FaucetGift,
    Transaction,
    Withdrawal,
)
from inframind.identity.admin_site import ReadOnly


@admin.register(Cursor)
class CursorAdmin(ReadOnly):
    list_display = [
        "contract",
        "chain_id",
        "block_number",
        "head_number",
        "state",
        "reason",
        "heard_at",
    ]


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = [
        "mined_at",
        "kind",
        "account",
        "amount_base_units",
        "epoch_number",
        "block_number",
        "transaction_hash",
        "log_index",
    ]
    list_filter = ["kind"]
    search_fields = ["=account", "=sender", "=transaction_hash"]
    show_full_result_count = False


@admin.register(Transaction)
class TransactionAdmin(ReadOnly):
    list_display = [
        "created_at",
        "key",
        "state",
        "reason",
        "nonce",
        "attempts",
        "mined_hash",
        "mined_block",
    ]
    list_filter = ["state"]
    search_fields = ["key", "=wallet__address", "=mined_hash"]


@admin.register(Withdrawal)
class WithdrawalAdmin(ReadOnly):
    """Without the signature: whoever has it may send the voucher."""

    list_display = [
        "created_at",
        "wallet_id",
        "amount_base_units",
        "cumulative_base_units",
        "state",
        "deadline",
        "ended_at",
    ]
    list_filter = ["state"]
    search_fields = ["=wallet__address"]
    exclude = ["signature"]


@admin.register(Delegation)
class DelegationAdmin(ReadOnly):
    list_display = ["address", "delegate", "block_number"]
    search_fields = ["=address", "=delegate"]


@admin.register(FaucetGift)
class FaucetGiftAdmin(ReadOnly):
    list_display = ["created_at", "wallet_id", "amount_base_units", "transaction"]
    list_select_related = ["transaction"]
    search_fields = ["=wallet__address"]
