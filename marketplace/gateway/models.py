"""One row per call: its id is the receipt's id."""

from __future__ import annotations

from django.conf import settings
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
    fee_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    latency_us = models.PositiveBigIntegerField()  # from admission to the output being checked
    node_latency_us = models.PositiveBigIntegerField(default=0)  # inside the node's answer time
    input_digest = models.CharField(max_length=71)  # sha256:… of the canonical input document
    output_digest = models.CharField(max_length=71, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

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
        ]
        indexes = [
            models.Index(fields=["version", "created_at"], name="call_version_time"),
            models.Index(fields=["wallet", "created_at"], name="call_wallet_time"),
        ]
