"""Listings, their immutable versions, the policies that change apart from them, and evidence."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVectorField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from inframind.lib.ids import new_uuid7
from marketplace.catalog.orderedjson import OrderedJSONField


class Model(models.Model):
    """A name on the registry. It belongs to its first registrant."""

    name = models.CharField(max_length=63, primary_key=True)
    skeleton = models.CharField(max_length=63, unique=True)  # look-alike names share it
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="listings"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Current access, the newest AccessPolicy row, kept here because every read filters on it.
    public = models.BooleanField(default=True)
    auth_required = models.BooleanField(default=False)
    allow_list = ArrayField(models.CharField(max_length=42), default=list, blank=True)
    # The version that a call without @version gets, and that lists show; null until one is active.
    current = models.ForeignKey(
        "Version", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    search = SearchVectorField(null=True, editable=False)
    calls_30d = models.PositiveBigIntegerField(
        default=0
    )  # written by the lists' refresh, for sorting

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(name__regex=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
                name="model_name_form",
            )
        ]
        indexes = [GinIndex(fields=["search"], name="model_search")]

    def __str__(self) -> str:
        return self.name


class Version(models.Model):
    """One immutable published package and where it stands in its lifecycle."""

    class State(models.TextChoices):
        PENDING = "pending", "Pending"
        ACTIVE = "active", "Active"
        POPULAR = "popular", "Popular"
        DEPRECATED = "deprecated", "Deprecated"
        DELISTED = "delisted", "Delisted"

    class Runtime(models.TextChoices):
        ONNX = "onnx", "ONNX"
        PYTHON = "python", "Python"
        CONTAINER = "container", "Container"

    class Stability(models.TextChoices):
        STABLE = "stable", "Stable"
        BETA = "beta", "Beta"
        ALPHA = "alpha", "Alpha"
        EXPERIMENTAL = "experimental", "Experimental"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.CharField(max_length=64)  # normalised SemVer
    # Sorts as bytes in SemVer order, see lifecycle.precedence.
    precedence = models.CharField(max_length=255, db_collation="C")
    cid = models.CharField(max_length=64, db_index=True)
    size_bytes = models.BigIntegerField()
    files = models.JSONField()  # [{"path", "cid", "size_bytes"}], sorted by path
    source = models.CharField(max_length=400, blank=True)  # ar:// or https:// it was fetched from
    container = models.CharField(max_length=400, blank=True)  # oci://…@sha256:…
    manifest = OrderedJSONField()  # as published, normalised
    readme = models.TextField(blank=True)
    # Columns below repeat the manifest, for search and facets.
    description = models.CharField(max_length=500)
    license = models.CharField(max_length=60)
    tags = ArrayField(models.CharField(max_length=40), default=list)
    task = models.CharField(max_length=40)
    runtime = models.CharField(max_length=12, choices=Runtime.choices)
    stability = models.CharField(max_length=14, choices=Stability.choices)
    privacy = ArrayField(models.CharField(max_length=20), default=list)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    state_reason = models.TextField(blank=True)  # why it is pending or delisted, and the remedy
    published_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    activated_at = models.DateTimeField(null=True, blank=True)
    deprecated_at = models.DateTimeField(null=True, blank=True)
    sunset_at = models.DateTimeField(null=True, blank=True)
    successor = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL)
    # Current terms, the newest Terms row.
    fee_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)
    payout_address = models.CharField(max_length=42)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "number"], name="version_number_once"),
            models.CheckConstraint(
                condition=Q(fee_base_units__gte=0), name="version_fee_not_negative"
            ),
            models.CheckConstraint(
                condition=Q(payout_address__regex=r"^0x[0-9a-fA-F]{40}$"),
                name="version_payout_address_form",
            ),
        ]
        indexes = [
            models.Index(fields=["state", "created_at"], name="version_state_time"),
            # Lists ask first what has expired, and hardly any version has a time at all.
            models.Index(
                fields=["expires_at"],
                condition=Q(expires_at__isnull=False),
                name="version_expiry",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model_id}@{self.number}"


class AccessPolicy(models.Model):
    """Who may see and call a model, with history: the newest row is in force. Never updated."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="access_history")
    public = models.BooleanField()
    auth_required = models.BooleanField()
    allow_list = ArrayField(models.CharField(max_length=42), default=list, blank=True)
    reason = models.CharField(max_length=200)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "access policies"


class Terms(models.Model):
    """What a version costs, who is paid and until when, with history. Never updated."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="terms_history")
    fee_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    payout_address = models.CharField(max_length=42)
    expires_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "terms"
        constraints = [
            models.CheckConstraint(
                condition=Q(fee_base_units__gte=0), name="terms_fee_not_negative"
            )
        ]


class CodeReview(models.Model):
    """A person read the publisher code of this CID and allowed or refused it. Binds to the CID."""

    class Verdict(models.TextChoices):
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"

    cid = models.CharField(max_length=64, db_index=True)
    verdict = models.CharField(max_length=10, choices=Verdict.choices)
    note = models.TextField(blank=True)
    reviewer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]


class Verification(models.Model):
    """One run of the checks on a version. A row in ``queued`` is what makes the task run."""

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PASSED = "passed", "Passed"
        FAILED = "failed", "Failed"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="verifications")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    reason_code = models.CharField(max_length=40, blank=True)
    reason = models.TextField(blank=True)  # for the owner: what failed and what to do
    node_name = models.CharField(max_length=63, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    workers_lost = models.PositiveSmallIntegerField(default=0)  # a run that kills them ends
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    due_at = models.DateTimeField(db_default=Now())  # not before; raised while it waits for a node
    lease_expires_at = models.DateTimeField(null=True, blank=True)  # a dead worker's run comes back
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["version"],
                condition=Q(state__in=["queued", "running"]),
                name="verification_one_at_a_time",
            )
        ]


class Check(models.Model):
    """Evidence: what was checked, on which bytes, how often, with what result."""

    class Kind(models.TextChoices):
        HASH = "hash", "Bytes hash to the CID"
        MANIFEST = "manifest", "Manifest and files are sound"
        LOAD = "load", "Loads on a node"
        EXAMPLES = "examples", "Examples give their golden outputs"
        GENERATED = "generated", "Generated inputs give schema-valid outputs"
        STRUCTURED = "structured", "Output is structured"
        PRIVACY = "privacy", "A node offers the declared privacy runtime"

    verification = models.ForeignKey(Verification, on_delete=models.CASCADE, related_name="checks")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    passed = models.BooleanField()
    cases_total = models.PositiveIntegerField(default=0)
    cases_passed = models.PositiveIntegerField(default=0)
    cid = models.CharField(max_length=64)
    detail = models.TextField(blank=True)
    duration_ms = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["verification", "kind"], name="check_kind_once_a_run"),
            models.CheckConstraint(
                condition=Q(cases_passed__lte=F("cases_total")), name="check_counts_agree"
            ),
        ]


class Badge(models.Model):
    """A claim about a version that links to the check that granted it."""

    class Kind(models.TextChoices):
        SCHEMA_VALIDATED = "schema-validated", "Schema validated"
        HASH_VERIFIED = "hash-verified", "Hash verified"
        AGENT_COMPATIBLE = "agent-compatible", "Agent compatible"
        PRIVACY_READY = "privacy-ready", "Privacy ready"

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="badges")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    # Not named "check": the name is taken by Django's system checks.
    evidence = models.ForeignKey(Check, on_delete=models.PROTECT, related_name="badges")
    granted_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["kind"]
        constraints = [
            models.UniqueConstraint(fields=["version", "kind"], name="badge_kind_once_a_version")
        ]
