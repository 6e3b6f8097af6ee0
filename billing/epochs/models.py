"""Epochs from open to claimable, how fees are shared, and who is owed what."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

BASIS_POINTS = 10_000


class Parameters(models.Model):
    """How fees are shared and how long an epoch lasts. Each version stays as it was written."""

    version = models.PositiveIntegerField(primary_key=True)
    node_basis_points = models.PositiveIntegerField()
    owner_basis_points = models.PositiveIntegerField()  # what both leave is the treasury's
    epoch_seconds = models.PositiveIntegerField()
    reason = models.CharField(max_length=200)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "parameters"
        constraints = [
            models.CheckConstraint(
                condition=Q(node_basis_points__lte=BASIS_POINTS - F("owner_basis_points")),
                name="parameters_share_no_more_than_all",
            ),
            models.CheckConstraint(
                condition=Q(epoch_seconds__gt=0), name="parameters_epoch_takes_time"
            ),
        ]


class Epoch(models.Model):
    """A span of accounting. Its state only ever goes forward, but for a root that was revoked."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        CLOSING = "closing", "Closing"
        SEALED = "sealed", "Sealed"
        PROPOSED = "proposed", "Proposed on chain"
        CLAIMABLE = "claimable", "Claimable"

    number = models.PositiveBigIntegerField(primary_key=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    opened_at = models.DateTimeField(db_default=Now(), editable=False)
    ends_at = models.DateTimeField()  # when it is due to close
    closed_at = models.DateTimeField(null=True)  # nothing enters it from then on
    sealed_at = models.DateTimeField(null=True)
    proposed_at = models.DateTimeField(null=True)
    claimable_at = models.DateTimeField(null=True)  # as the contract has it
    batch_count = models.PositiveBigIntegerField(default=0)
    receipt_count = models.PositiveBigIntegerField(default=0)
    revenue_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    receipts_root = models.BinaryField(max_length=32, null=True)
    receipts_cid = models.CharField(max_length=80, blank=True)
    root = models.BinaryField(max_length=32, null=True)  # None for a tree without leaves
    tree_cid = models.CharField(max_length=80, blank=True)
    leaf_count = models.PositiveBigIntegerField(default=0)
    total_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)  # of leaves
    retired_at = models.DateTimeField(null=True)  # its receipts have left the database

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["state"], condition=Q(state="open"), name="epoch_one_open"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["open", "closing"])
                | Q(
                    sealed_at__isnull=False,
                    receipts_root__isnull=False,
                    receipts_cid__gt="",
                    tree_cid__gt="",
                ),
                name="epoch_sealed_is_whole",
            ),
            models.CheckConstraint(
                condition=Q(state="open", closed_at__isnull=True)
                | (~Q(state="open") & Q(closed_at__isnull=False)),
                name="epoch_closed_has_its_time",
            ),
        ]

    def __str__(self) -> str:
        return f"Epoch {self.number}"


class Stream(models.Model):
    """A source of income: a model, a node, a bounty. Its id says nothing of a hidden one.

    A subject that was public once and is private now has two: what it earns, it earns by the
    hidden one from then on.
    """

    subject = models.CharField(max_length=140)  # like model:summarizer-v1
    id = models.BinaryField(max_length=32, primary_key=True)
    hidden = models.BooleanField(default=False)  # told to those alone who are paid by it
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subject", "hidden"], name="stream_once_a_subject")
        ]

    @property
    def hex(self) -> str:
        return "0x" + bytes(self.id).hex()


class Line(models.Model):
    """What one payee earned by one stream in one epoch, and how it was worked out. Written once."""

    class Share(models.TextChoices):
        OWNER = "owner", "Owner"
        NODE = "node", "Node"
        OTHER = "other", "Other"

    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="lines")
    address = models.CharField(max_length=42)  # who is paid
    stream = models.ForeignKey(Stream, on_delete=models.PROTECT, related_name="lines")
    share = models.CharField(max_length=6, choices=Share.choices)
    parameters = models.ForeignKey(Parameters, on_delete=models.PROTECT, related_name="+")
    calls = models.PositiveBigIntegerField()
    gross_base_units = models.DecimalField(max_digits=78, decimal_places=0)  # fees shared out of
    amount_base_units = models.DecimalField(max_digits=78, decimal_places=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["epoch", "address", "stream", "share", "parameters"],
                name="line_once_an_epoch",
            ),
            models.CheckConstraint(
                condition=Q(amount_base_units__gte=0)
                & Q(amount_base_units__lte=F("gross_base_units")),
                name="line_shares_what_there_is",
            ),
        ]
        indexes = [models.Index(fields=["address", "epoch"], name="line_of_payee")]


class Standing(models.Model):
    """What a payee has earned by a stream in all sealed epochs: the leaf of the next tree."""

    address = models.CharField(max_length=42)
    stream = models.ForeignKey(Stream, on_delete=models.PROTECT, related_name="standings")
    cumulative_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    epoch = models.ForeignKey(Epoch, on_delete=models.PROTECT, related_name="+")  # last that added

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["address", "stream"], name="standing_once_a_stream"),
            models.CheckConstraint(
                condition=Q(cumulative_base_units__gt=0), name="standing_of_something"
            ),
        ]


class Tree(models.Model):
    """The nodes of a sealed epoch's tree, 32 bytes each in OpenZeppelin's order: proofs are read
    from it without hashing anything again."""

    epoch = models.OneToOneField(
        Epoch, primary_key=True, on_delete=models.PROTECT, related_name="tree"
    )
    nodes = models.BinaryField()
