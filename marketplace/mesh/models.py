"""Nodes, what runs where, what must stay loaded, and what the probes saw."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from inframind.lib.ids import new_uuid7


class Node(models.Model):
    """A server that speaks the Open Inference Protocol v2, registered by its operator's wallet."""

    class State(models.TextChoices):
        READY = "ready", "Ready"
        DOWN = "down", "Down"
        SUSPENDED = "suspended", "Suspended"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    name = models.CharField(max_length=63, unique=True)
    operator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="nodes"
    )
    endpoint = models.URLField(max_length=300, unique=True)  # http(s)://host:port of the HTTP API
    metrics_endpoint = models.URLField(max_length=300, blank=True)
    grpc_endpoint = models.CharField(max_length=300, blank=True)  # host:port, for big packages
    control_header = models.CharField(max_length=60, blank=True)
    control_secret_sealed = models.BinaryField(default=bytes)  # encrypted, see secrets.py
    backends = ArrayField(models.CharField(max_length=40), default=list)
    gpu_count = models.PositiveSmallIntegerField(default=0)
    privacy_runtimes = ArrayField(models.CharField(max_length=20), default=list, blank=True)
    capacity = models.PositiveSmallIntegerField(default=8)  # calls at once
    accepts_publisher_code = models.BooleanField(default=False)  # the operator's opt-in
    isolation = models.CharField(max_length=200, blank=True)  # how publisher code is confined
    trusted = models.BooleanField(default=False)  # by staff: may run private packages
    state = models.CharField(max_length=10, choices=State.choices, default=State.DOWN)
    state_reason = models.TextField(blank=True)
    failures_in_a_row = models.PositiveIntegerField(default=0)
    # Reputation over the last calls, see reputation.py; none before there are enough of them.
    reputation_bps = models.PositiveSmallIntegerField(null=True, blank=True)
    success_bps = models.PositiveSmallIntegerField(null=True, blank=True)
    sla_bps = models.PositiveSmallIntegerField(null=True, blank=True)
    latency_bps = models.PositiveSmallIntegerField(null=True, blank=True)
    rated_calls = models.PositiveIntegerField(default=0)
    rated_at = models.DateTimeField(null=True, blank=True)
    rated_since = models.DateTimeField(null=True, blank=True)  # a review lets it start afresh
    paid_calls = models.BooleanField(default=True)  # not below 85 % success
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    probed_at = models.DateTimeField(null=True, blank=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                # Publisher code and other people's private models never share a process.
                condition=~Q(accepts_publisher_code=True, trusted=True),
                name="node_sandbox_is_not_trusted",
            ),
            models.CheckConstraint(
                condition=Q(
                    reputation_bps__lte=10_000,
                    success_bps__lte=10_000,
                    sla_bps__lte=10_000,
                    latency_bps__lte=10_000,
                )
                | Q(reputation_bps=None, success_bps=None, sla_bps=None, latency_bps=None),
                name="node_reputation_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class NodeChallenge(models.Model):
    """What an operator signs, and what the endpoint must answer, before a node is registered."""

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    operator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    endpoint = models.URLField(max_length=300)
    nonce = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)


class NodeGrant(models.Model):
    """A model's owner lets its private versions go to a node that staff do not trust."""

    model = models.ForeignKey("catalog.Model", on_delete=models.CASCADE, related_name="node_grants")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="grants")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "node"], name="node_grant_once_a_model")
        ]


class Placement(models.Model):
    """A version on a node."""

    class State(models.TextChoices):
        LOADING = "loading", "Loading"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    version = models.ForeignKey(
        "catalog.Version", on_delete=models.CASCADE, related_name="placements"
    )
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="placements")
    state = models.CharField(max_length=10, choices=State.choices)
    reason = models.TextField(blank=True)
    # While loading: until then one worker has it. After a failure: not tried again before then.
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    load_duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ready_at = models.DateTimeField(null=True, blank=True)
    # What evicting goes by: written every few seconds, not with every call.
    used_at = models.DateTimeField(null=True, blank=True)
    # Successes and failures there lately: a version that fails on two nodes is itself at fault.
    served_lately = models.PositiveIntegerField(default=0)
    failed_lately = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "node"], name="placement_once_a_node")
        ]


class NodeJob(models.Model):
    """One of the last calls that a node was given: the ground of its reputation.

    Only ``reputation.WINDOW`` of each node are kept; a call's own row stays with the gateway.
    """

    class Result(models.TextChoices):
        SERVED = "served", "Served"
        FAILED = "failed", "Answered with an error or against the schema"
        LATE = "late", "Not answered by the deadline"
        MISSED = "missed", "Not answered at all"

    # The table is small and written all the time: the index below and the constraint's are enough.
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="jobs", db_index=False)
    version = models.ForeignKey(
        "catalog.Version", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    call_id = models.UUIDField()
    result = models.CharField(max_length=6, choices=Result.choices)
    latency_us = models.PositiveBigIntegerField(null=True)  # of a served call, inside the node
    # The version is at fault, so it says nothing of the node; stays when that is long forgotten.
    excused = models.BooleanField(default=False)
    created_at = models.DateTimeField()  # the call's

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "call_id"], name="node_job_once_a_call")
        ]
        indexes = [models.Index(fields=["node", "-created_at"], name="node_job_newest")]


class Pin(models.Model):
    """A model that nodes keep loaded ahead of calls, and who decided so."""

    class Source(models.TextChoices):
        DAO = "dao", "DAO"
        POPULAR = "popular", "Popular"
        BOUNTY = "bounty", "Bounty"

    model = models.ForeignKey("catalog.Model", on_delete=models.CASCADE, related_name="pins")
    source = models.CharField(max_length=10, choices=Source.choices)
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    ends_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "source"], name="pin_once_a_source")
        ]


class Probe(models.Model):
    """One look at a node, or at one version on it: the ground of availability figures."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="probes")
    version = models.ForeignKey(
        "catalog.Version", null=True, on_delete=models.CASCADE, related_name="probes"
    )
    ok = models.BooleanField()
    latency_us = models.PositiveIntegerField(default=0)
    detail = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["node", "created_at"], name="probe_node_time"),
            models.Index(fields=["version", "created_at"], name="probe_version_time"),
        ]
