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
    public = models.BooleanField(default=True)  # stands in lists; else only the allowed see it
    auth_required = models.BooleanField(default=False)
    restricted = models.BooleanField(default=False)  # only the owner and the allow list call it
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
            ),
            models.CheckConstraint(
                condition=Q(public=True) | Q(restricted=True), name="model_private_is_restricted"
            ),
            models.CheckConstraint(
                condition=Q(restricted=False) | Q(auth_required=True),
                name="model_restricted_needs_auth",
            ),
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
    cid = models.CharField(max_length=64, db_index=True)  # of what is stored: sealed or plain
    content_cid = models.CharField(max_length=64, db_index=True)  # of the files as published
    package_key = models.ForeignKey(  # null: stored as it was published, readable by everyone
        "PackageKey", null=True, blank=True, on_delete=models.PROTECT, related_name="versions"
    )
    # What is left of a sealed package's randomness, to seal the same bytes again for a repair.
    sealed_head = models.BinaryField(null=True)
    size_bytes = models.BigIntegerField()  # of the files as published
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
    streaming = models.BooleanField(default=False, db_default=False)  # its answers come in pieces
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


class PackageKey(models.Model):
    """What the packages of a private model are sealed with (an age X25519 identity).

    Its secret is wrapped by the server's key. When a model becomes public its key is disclosed, so
    that everybody can open what was sealed; packages sealed from then on get a new one.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="package_keys")
    recipient = models.CharField(max_length=80)  # age1…, the public half
    secret_wrapped = models.BinaryField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    disclosed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["model"],
                condition=Q(disclosed_at__isnull=True),
                name="package_key_one_in_use",
            )
        ]

    def __str__(self) -> str:
        return f"{self.recipient} of {self.model_id}"


class AccessPolicy(models.Model):
    """Who may see and call a model, with history: the newest row is in force. Never updated."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="access_history")
    public = models.BooleanField()
    auth_required = models.BooleanField()
    restricted = models.BooleanField(default=False)
    reason = models.CharField(max_length=200)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "access policies"


class WalletGroup(models.Model):
    """Wallets that an owner lets in together, on as many models as they like."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="wallet_groups"
    )
    name = models.CharField(max_length=40)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "name"], name="group_name_once_an_owner"),
            models.CheckConstraint(
                condition=Q(name__regex=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"),
                name="group_name_form",
            ),
        ]


class GroupMember(models.Model):
    """A wallet in a group, until a time or without end. The wallet need not be known yet."""

    group = models.ForeignKey(WalletGroup, on_delete=models.CASCADE, related_name="members")
    address = models.CharField(max_length=42)
    expires_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["address"], name="group_member_address")]
        constraints = [
            models.UniqueConstraint(fields=["group", "address"], name="group_member_once"),
            models.CheckConstraint(
                condition=Q(address__regex=r"^0x[0-9a-fA-F]{40}$"), name="group_member_address_form"
            ),
        ]


class AllowEntry(models.Model):
    """One line of a model's allow list: a wallet, or a group of its owner. Asked at every call."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="allow_entries")
    address = models.CharField(max_length=42, blank=True)
    group = models.ForeignKey(
        WalletGroup, null=True, blank=True, on_delete=models.CASCADE, related_name="entries"
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    note = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["created_at", "id"]
        verbose_name_plural = "allow entries"
        indexes = [models.Index(fields=["address", "model"], name="allow_entry_address")]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "address"], condition=~Q(address=""), name="allow_address_once"
            ),
            models.UniqueConstraint(
                fields=["model", "group"], condition=Q(group__isnull=False), name="allow_group_once"
            ),
            models.CheckConstraint(
                condition=Q(address__regex=r"^0x[0-9a-fA-F]{40}$", group__isnull=True)
                | Q(address="", group__isnull=False),
                name="allow_entry_wallet_or_group",
            ),
        ]


class AccessChange(models.Model):
    """What was done to an allow list or a group, by whom. Never updated, never removed."""

    class Kind(models.TextChoices):
        ALLOWED = "allowed", "Let in"
        REMOVED = "removed", "Removed"
        CHANGED = "changed", "Changed"
        JOINED = "joined", "Joined the group"
        LEFT = "left", "Left the group"

    model = models.ForeignKey(
        Model, null=True, on_delete=models.CASCADE, related_name="access_changes"
    )
    group_name = models.CharField(max_length=40, blank=True)  # outlives the group itself
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    address = models.CharField(max_length=42, blank=True)
    expires_at = models.DateTimeField(null=True)
    note = models.CharField(max_length=200, blank=True)
    changed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-id"]


class AccessRequest(models.Model):
    """A wallet asks to be let in. The name is no foreign key: asking must tell nobody whether
    there is such a model, so a request for a name that does not exist is a row like any other."""

    class State(models.TextChoices):
        OPEN = "open", "Open"
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    model_name = models.CharField(max_length=63, db_index=True)
    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_requests"
    )
    message = models.CharField(max_length=500, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    # A refusal is told to the asker only where the owner says so: it confirms the name.
    answer = models.CharField(max_length=500, blank=True)
    told = models.BooleanField(default=False)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    decided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["model_name", "wallet"],
                condition=Q(state="open"),
                name="access_request_one_open",
            )
        ]


class Attempt(models.Model):
    """An act of a wallet that has an hourly limit. Kept for an hour, whatever came of the act."""

    class Kind(models.TextChoices):
        NAME_REFUSED = "name-refused", "Asked for a name that it could not have"
        ACCESS_ASKED = "access-asked", "Asked to be let in"

    wallet = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attempts"
    )
    kind = models.CharField(max_length=12, choices=Kind.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        indexes = [models.Index(fields=["wallet", "kind", "created_at"], name="attempt_of_wallet")]


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
    """A person read the publisher code of this CID and allowed or refused it.

    Binds to the content's CID, which is the same whether the package is stored plain or sealed.
    """

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
