"""One row per call, which is its receipt and its charge; the batches they were signed in."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Call(models.Model):
    """What was asked, what came of it, what it cost. Written once, never changed."""

    class Outcome(models.TextChoices):
        SERVED = "served", "Served"
        INVALID_INPUT = "invalid-input", "Input broke the schema"
        INVALID_OUTPUT = "invalid-output", "Output broke the schema"
        MODEL_FAILED = "model-failed", "The model failed"
        TIMED_OUT = "timed-out", "Deadline passed"
        NO_NODE = "no-node", "No node was ready"
        REFUSED = "refused", "Refused before it ran"

    # The caller's own mistakes say nothing about the model: they count in no success rate.
    COUNTED = (
        Outcome.SERVED,
        Outcome.INVALID_OUTPUT,
        Outcome.MODEL_FAILED,
        Outcome.TIMED_OUT,
        Outcome.NO_NODE,
    )

    id = models.UUIDField(primary_key=True, editable=False)  # UUIDv7, made when the call came in
    version = models.ForeignKey("catalog.Version", on_delete=models.PROTECT, related_name="calls")
    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="calls"
    )
    token_id = models.UUIDField(null=True)
    node = models.ForeignKey(
        "mesh.Node", null=True, on_delete=models.SET_NULL, related_name="calls"
    )
    node_name = models.CharField(max_length=63, blank=True)
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    problem_code = models.CharField(max_length=40, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)  # nodes tried
    # Nodes that were given the call and did not answer it, while another one did or none.
    missed_nodes = ArrayField(models.UUIDField(), default=list, db_default=[])
    fee_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    latency_us = models.PositiveBigIntegerField()  # from admission to the output being checked
    node_latency_us = models.PositiveBigIntegerField(default=0)  # inside the node's answer time
    input_digest = models.CharField(max_length=71)  # sha256:… of the canonical input document
    output_digest = models.CharField(max_length=71, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)  # its batch's time
    # The table is partitioned by it: the epoch that was open when the batch was committed.
    epoch = models.PositiveBigIntegerField()
    parameters_version = models.PositiveIntegerField()
    payout_address = models.CharField(max_length=42)  # the owner's share goes there
    operator_address = models.CharField(max_length=42, blank=True)  # the node's share goes there
    # The caller is the model's owner, its payee, the node's operator, or votes with one of them:
    # such a call earns no bonus and counts in no ranking.
    linked = models.BooleanField(default=False)
    salt = models.BinaryField(max_length=16)
    batch_id = models.UUIDField()
    batch_index = models.PositiveSmallIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(fee_base_units__gte=0) & (Q(outcome="served") | Q(fee_base_units=0)),
                name="call_only_success_costs",
            ),
            models.CheckConstraint(
                condition=Q(outcome="served", node_name__gt="", output_digest__gt="")
                | ~Q(outcome="served"),
                name="call_served_names_node_and_output",
            ),
            models.CheckConstraint(
                condition=Q(fee_base_units=0)
                | Q(epoch=0)  # from before there were balances: nobody was charged
                | Q(wallet__isnull=False, payout_address__gt="", operator_address__gt=""),
                name="call_that_costs_names_its_payer",
            ),
        ]
        indexes = [
            models.Index(fields=["version", "created_at"], name="call_version_time"),
            models.Index(fields=["wallet", "created_at"], name="call_wallet_time"),
        ]


class Batch(models.Model):
    """Calls that were committed together: the tree of their leaves, whose root was signed once."""

    id = models.UUIDField(primary_key=True, editable=False)
    epoch = models.PositiveBigIntegerField()
    root = models.BinaryField(max_length=32)
    leaves = models.BinaryField()  # 32 bytes each, in the order of ``batch_index``
    count = models.PositiveIntegerField()
    fees_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    time_us = models.PositiveBigIntegerField()  # unix microseconds: the calls' created_at
    signer = models.CharField(max_length=42)
    signature = models.BinaryField(max_length=65)

    class Meta:
        verbose_name_plural = "batches"
        indexes = [models.Index(fields=["epoch", "time_us", "id"], name="batch_of_epoch")]
        constraints = [
            models.CheckConstraint(
                condition=Q(count__gt=0, fees_base_units__gte=0), name="batch_of_something"
            )
        ]


class KeyedCall(models.Model):
    """A call that came with an ``Idempotency-Key``: under way, or served with its answer kept.

    A call that was not served leaves no row: it cost nothing, and the key may be used again.
    """

    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="keyed_calls"
    )
    key_digest = models.CharField(max_length=64)  # SHA-256 of the key
    request_digest = models.CharField(max_length=64)  # of the model's reference and the body
    call_id = models.UUIDField()
    # While under way: until then another call with the key has to wait. Served: kept until then.
    expires_at = models.DateTimeField()
    served = models.BooleanField(default=False)
    # Encrypted under a key derived from the server's and from the idempotency key itself.
    answer_sealed = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["wallet", "key_digest"], name="keyed_call_once"),
            models.CheckConstraint(
                condition=Q(served=False, answer_sealed__isnull=True)
                | Q(served=True, answer_sealed__isnull=False),
                name="keyed_call_served_has_its_answer",
            ),
        ]
        indexes = [models.Index(fields=["expires_at"], name="keyed_call_until")]
