"""Accounts, the transfers between them, and what is set aside: the facts, and caches of them.

Every amount is a whole number of base units. Transfers, holds and their endings are written once
(triggers refuse changes); the sums on accounts are kept by statement-level triggers, so that one
statement of many rows costs one update of each account that it touches.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from inframind.lib.ids import new_uuid7


class Account(models.Model):
    """A place for money. ``code`` says which: ``wallet:0x…``, ``chain``, ``treasury``, …

    posted: its transfers, in less out. held: open holds. leased: live leases, whole. charged: what
    ended leases spent, less what epochs have posted since; below zero while a live lease's calls
    are posted already. Nobody writes these four but the triggers and the statements of leases.
    """

    class Kind(models.TextChoices):
        CHAIN = "chain", "The chain"
        WALLET = "wallet", "Prepaid balance"
        TREASURY = "treasury", "Treasury"
        EPOCH = "epoch", "Fees of an epoch"
        OWED = "owed", "Owed, to be claimed"
        ESCROW = "escrow", "Escrow"

    code = models.CharField(max_length=140, unique=True)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="accounts"
    )
    # None: may go as low as it takes. The chain does: what came in from there is its debt.
    floor_base_units = models.DecimalField(max_digits=78, decimal_places=0, null=True, default=0)
    posted_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    held_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    leased_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    charged_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    # What the wallet wants to spend in a day (UTC) at most, counted as leases are taken.
    day_limit_base_units = models.DecimalField(max_digits=78, decimal_places=0, null=True)
    day = models.DateField(null=True)
    day_used_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(floor_base_units__isnull=True)
                | Q(
                    posted_base_units__gte=F("floor_base_units")
                    + F("held_base_units")
                    + F("leased_base_units")
                    + F("charged_base_units")
                ),
                name="account_above_its_floor",
            ),
            models.CheckConstraint(
                condition=Q(held_base_units__gte=0, leased_base_units__gte=0),
                name="account_sets_nothing_negative_aside",
            ),
            models.CheckConstraint(
                condition=Q(day_limit_base_units__isnull=True)
                | Q(day_used_base_units__lte=F("day_limit_base_units"))
                | Q(day_limit_base_units__gte=0),
                name="account_day_limit_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(kind="wallet", wallet__isnull=False) | ~Q(kind="wallet"),
                name="account_wallet_has_its_wallet",
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Reason(models.TextChoices):
    """Why money moved."""

    DEPOSIT = "deposit", "Deposit"
    CHARGE = "charge", "Calls of an epoch"
    SHARE = "share", "Share of fees"
    REST = "rest", "What the shares leave"
    CLAIM = "claim", "Claimed on chain"
    WITHDRAWAL = "withdrawal", "Withdrawn on chain"
    ESCROW = "escrow", "Escrow"
    GRANT = "grant", "Grant"


class Transfer(models.Model):
    """One movement: out of ``debit``, into ``credit``. The same id is the same transfer."""

    id = models.UUIDField(primary_key=True, editable=False)  # made by whoever asks for it
    debit = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="debits")
    credit = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="credits")
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    reason = models.CharField(max_length=12, choices=Reason.choices)
    subject = models.CharField(max_length=140, blank=True)  # opaque here: what it was for
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_base_units__gt=0), name="transfer_moves_something"
            ),
            models.CheckConstraint(
                condition=~Q(debit=F("credit")), name="transfer_between_two_accounts"
            ),
        ]
        indexes = [
            models.Index(fields=["debit", "created_at"], name="transfer_debit_time"),
            models.Index(fields=["credit", "created_at"], name="transfer_credit_time"),
        ]


class Hold(models.Model):
    """Money of ``debit`` set aside for ``credit`` until it is settled, given back, or expired."""

    id = models.UUIDField(primary_key=True, editable=False)  # made by whoever asks for it
    debit = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="holds")
    credit = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    # A cache: the amount less its endings. Only the trigger of those writes it.
    remaining_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    reason = models.CharField(max_length=12, choices=Reason.choices)
    subject = models.CharField(max_length=140, blank=True)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_base_units__gt=0), name="ledger_hold_of_something"
            ),
            models.CheckConstraint(
                condition=Q(
                    remaining_base_units__gte=0, remaining_base_units__lte=F("amount_base_units")
                ),
                name="ledger_hold_ends_once",
            ),
            models.CheckConstraint(
                condition=~Q(debit=F("credit")), name="ledger_hold_between_two_accounts"
            ),
        ]
        indexes = [
            models.Index(
                fields=["expires_at"],
                condition=Q(remaining_base_units__gt=0),
                name="ledger_hold_open_until",
            )
        ]


class HoldEnding(models.Model):
    """How a hold, or a part of it, ended. Written once."""

    class Kind(models.TextChoices):
        SETTLED = "settled", "Settled"  # it became a transfer
        RELEASED = "released", "Released"  # given back as agreed
        VOIDED = "voided", "Voided"  # given back, since what it was for fell through
        EXPIRED = "expired", "Expired"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    hold = models.ForeignKey(Hold, on_delete=models.PROTECT, related_name="endings")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    transfer = models.OneToOneField(
        Transfer, null=True, on_delete=models.PROTECT, related_name="ending"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_base_units__gt=0), name="hold_ending_of_something"
            ),
            models.CheckConstraint(
                condition=Q(kind="settled", transfer__isnull=False)
                | (~Q(kind="settled") & Q(transfer__isnull=True)),
                name="hold_ending_settled_is_a_transfer",
            ),
        ]


class Lease(models.Model):
    """Funds of an account that one process may charge calls to until ``expires_at``.

    While it lives it counts whole; at its end, what was not spent is the account's again.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="leases")
    process = models.CharField(max_length=60)  # who holds it, for those who look
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    spent_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    day = models.DateField()  # UTC, that its amount was counted on
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_base_units__gt=0, spent_base_units__gte=0)
                & Q(spent_base_units__lte=F("amount_base_units")),
                name="lease_spends_what_it_has",
            )
        ]
        indexes = [models.Index(fields=["expires_at"], name="lease_until")]
