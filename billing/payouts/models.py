"""Where books and chain meet: what was seen there, what is sent there, what is on its way out."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from inframind.lib.ids import new_uuid7


class Cursor(models.Model):
    """How far the settlement contract's events were read, with the block that was read last."""

    class State(models.TextChoices):
        FOLLOWING = "following", "Following"
        HALTED = "halted", "Halted"  # a person has to look before anything is credited again

    contract = models.CharField(max_length=42, primary_key=True)
    chain_id = models.PositiveBigIntegerField()
    block_number = models.PositiveBigIntegerField()
    block_hash = models.CharField(max_length=66)
    head_number = models.PositiveBigIntegerField(default=0)  # as last heard, unconfirmed
    state = models.CharField(max_length=10, choices=State.choices, default=State.FOLLOWING)
    reason = models.TextField(blank=True)
    heard_at = models.DateTimeField(null=True)  # when the node last answered
    updated_at = models.DateTimeField(db_default=Now())


class Event(models.Model):
    """A confirmed event of our contracts. Written once; ``posted_at`` when the books have it."""

    class Kind(models.TextChoices):
        DEPOSITED = "deposited", "Deposited"
        CLAIMED = "claimed", "Claimed"
        WITHDRAWN = "withdrawn", "Withdrawn"
        ROOT_PROPOSED = "root-proposed", "Root proposed"
        ROOT_REVOKED = "root-revoked", "Root revoked"
        DELEGATED = "delegated", "Delegate changed"

    transaction_hash = models.CharField(max_length=66)
    log_index = models.PositiveIntegerField()
    block_number = models.PositiveBigIntegerField()
    block_hash = models.CharField(max_length=66)
    kind = models.CharField(max_length=14, choices=Kind.choices)
    account = models.CharField(max_length=42, blank=True)
    sender = models.CharField(max_length=42, blank=True)
    stream = models.BinaryField(max_length=32, null=True)
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    cumulative_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    epoch_number = models.PositiveBigIntegerField(null=True)
    root = models.BinaryField(max_length=32, null=True)
    delegate = models.CharField(max_length=42, blank=True)
    mined_at = models.DateTimeField()  # the block's own time
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["block_number", "log_index"]
        constraints = [
            models.UniqueConstraint(fields=["transaction_hash", "log_index"], name="event_once")
        ]
        indexes = [models.Index(fields=["account", "kind"], name="event_of_account")]


class Transaction(models.Model):
    """A transaction that we send, from wish to confirmation. ``key`` says what it is for, once."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        SENT = "sent", "Sent"
        MINED = "mined", "Mined"
        CONFIRMED = "confirmed", "Confirmed"
        FAILED = "failed", "Failed"  # mined and reverted, or refused before it was sent

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    key = models.CharField(max_length=140, unique=True)  # like root:12:0x…
    wallet = models.ForeignKey(  # whom it is sent for, where it is for somebody
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    sender = models.CharField(max_length=42)
    to = models.CharField(max_length=42)
    data = models.BinaryField()
    value_wei = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    nonce = models.PositiveBigIntegerField(null=True)
    gas = models.PositiveBigIntegerField(null=True)
    max_fee_wei = models.DecimalField(max_digits=78, decimal_places=0, null=True)
    priority_fee_wei = models.DecimalField(max_digits=78, decimal_places=0, null=True)
    # All that were signed for this nonce; only one of them can be mined.
    hashes = ArrayField(models.CharField(max_length=66), default=list)
    mined_hash = models.CharField(max_length=66, blank=True)
    mined_block = models.PositiveBigIntegerField(null=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    reason = models.TextField(blank=True)
    attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["sender", "nonce"],
                condition=Q(nonce__isnull=False),
                name="transaction_nonce_once",
            ),
            models.CheckConstraint(
                condition=Q(state="queued") | Q(state="failed") | Q(nonce__isnull=False),
                name="transaction_sent_has_its_nonce",
            ),
        ]
        indexes = [
            models.Index(
                fields=["created_at"],
                condition=Q(state__in=["queued", "sent", "mined"]),
                name="transaction_open",
            )
        ]


class Withdrawal(models.Model):
    """Unspent balance on its way back: a hold in the books, and a voucher for the chain."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        PAID = "paid", "Paid"
        EXPIRED = "expired", "Expired"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="withdrawals"
    )
    hold_id = models.UUIDField(unique=True)  # billing.ledger's
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    cumulative_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    deadline = models.DateTimeField()  # of the voucher, by the chain's clock
    signature = models.BinaryField(max_length=65)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    event = models.OneToOneField(
        Event, null=True, on_delete=models.PROTECT, related_name="withdrawal"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["wallet"], condition=Q(state="open"), name="withdrawal_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(amount_base_units__gt=0)
                & Q(cumulative_base_units__gte=F("amount_base_units")),
                name="withdrawal_of_something",
            ),
        ]


class Delegation(models.Model):
    """To whom a wallet's votes go on chain, as its last event says."""

    address = models.CharField(max_length=42, primary_key=True)
    delegate = models.CharField(max_length=42)
    block_number = models.PositiveBigIntegerField()
    log_index = models.PositiveIntegerField()

    class Meta:
        indexes = [models.Index(fields=["delegate"], name="delegation_to")]


class FaucetGift(models.Model):
    """Test IFM that was given on a development chain."""

    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="faucet_gifts"
    )
    transaction = models.OneToOneField(Transaction, on_delete=models.PROTECT, related_name="+")
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
