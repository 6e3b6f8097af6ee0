"""Wallets (the users), how they are signed in, and the tokens they carry."""

from __future__ import annotations

from typing import Any, ClassVar

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils.crypto import salted_hmac
from django_otp.plugins.otp_totp.models import TOTPDevice

from inframind.lib.addresses import checksum_address
from inframind.lib.ids import new_uuid7


class WalletManager(BaseUserManager["Wallet"]):
    def get_by_natural_key(self, username: str | None) -> Wallet:
        return self.get(address=checksum_address(username or ""))

    def of(self, address: str) -> Wallet:
        """The wallet with this address, made on first sight. Raises ``ValueError``."""
        wallet, _ = self.get_or_create(address=checksum_address(address))
        return wallet


class Wallet(AbstractBaseUser, PermissionsMixin):
    """A user: an EIP-55 checksummed address. There are no passwords."""

    password = None  # type: ignore[assignment]
    address = models.CharField(max_length=42, primary_key=True)
    display_name = models.CharField(max_length=60, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    session_serial = models.PositiveIntegerField(default=0)  # raised to end every session at once

    USERNAME_FIELD = "address"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = WalletManager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(address__regex=r"^0x[0-9a-fA-F]{40}$"),
                name="wallet_address_form",
            ),
            models.UniqueConstraint(Lower("address"), name="wallet_address_once_in_any_case"),
        ]

    def __str__(self) -> str:
        return self.display_name or f"{self.address[:6]}…{self.address[-4:]}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.address = checksum_address(self.address)
        super().save(*args, **kwargs)

    def get_session_auth_hash(self) -> str:
        """Sessions are bound to the address and its serial, for want of a password."""
        value = f"{self.address}:{self.session_serial}"
        return salted_hmac("inframind.identity.session", value, algorithm="sha256").hexdigest()


class Seat(models.Model):
    """A power that a wallet holds for a time, such as a curator's; it begins and ends by itself."""

    class Role(models.TextChoices):
        CURATOR = "curator", "Curator"

    wallet = models.ForeignKey(Wallet, on_delete=models.CASCADE, related_name="seats")
    role = models.CharField(max_length=12, choices=Role.choices)
    begins_at = models.DateTimeField(db_default=Now())
    ends_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=200)
    granted_by = models.ForeignKey(Wallet, null=True, on_delete=models.PROTECT, related_name="+")
    end_reason = models.CharField(max_length=200, blank=True)  # of an end before its time
    ended_by = models.ForeignKey(Wallet, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["-begins_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(ends_at__isnull=True)
                | models.Q(ends_at__gt=models.F("begins_at")),
                name="seat_ends_after_it_begins",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.wallet_id}"


class SecondFactor(TOTPDevice):  # type: ignore[misc] # its package ships no types
    """An authenticator app. The row holds a salt: what the app was given is derived from it and the
    server's key, so whoever reads the database can make no code."""

    class Meta:
        proxy = True

    @property
    def bin_key(self) -> bytes:
        """The 20 bytes that the app was given."""
        return HKDF(
            algorithm=SHA256(),
            length=20,
            salt=b"inframind second factor v1",
            info=bytes.fromhex(self.key),
        ).derive(settings.SECRET_KEY.encode())


class Session(AbstractBaseSession):
    """A browser that is signed in, or not yet. The cookie's value is kept as a digest only."""

    session_key = models.CharField(max_length=40, primary_key=True)  # SHA-256 of it, cut to 160 bit
    wallet = models.ForeignKey(Wallet, null=True, on_delete=models.CASCADE, related_name="sessions")
    user_agent = models.CharField(max_length=200, blank=True)
    remote_address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    last_seen_at = models.DateTimeField(db_default=Now())

    @classmethod
    def get_session_store_class(cls) -> type[SessionBase]:
        from inframind.identity.sessions import SessionStore

        return SessionStore


class SignInNonce(models.Model):
    """A number that a sign-in message must carry. Given out once, used once."""

    nonce = models.CharField(max_length=40, primary_key=True)
    # The digest of the browser's own secret that asked for it; empty for programs, which have none.
    bound_to = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True)


class Meter(models.Model):
    """What was used of a limit. A token has one, its rotated successors share it, and so has every
    narrowing that sets a limit of its own; a call counts on all of them at once."""

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    calls_limit = models.PositiveBigIntegerField(null=True, blank=True)
    spend_limit_base_units = models.DecimalField(
        max_digits=78, decimal_places=0, null=True, blank=True
    )
    calls_used = models.PositiveBigIntegerField(default=0)
    spent_base_units = models.DecimalField(max_digits=78, decimal_places=0, default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(calls_limit__isnull=True)
                | models.Q(calls_used__lte=models.F("calls_limit")),
                name="meter_calls_within_limit",
            ),
            models.CheckConstraint(
                condition=models.Q(spend_limit_base_units__isnull=True)
                | models.Q(spent_base_units__lte=models.F("spend_limit_base_units")),
                name="meter_spend_within_limit",
            ),
        ]


class MeterHold(models.Model):
    """A call under way, held against a meter until it is settled; a lost one ends by itself."""

    meter = models.ForeignKey(Meter, on_delete=models.CASCADE, related_name="holds")
    call_id = models.UUIDField()
    fee_base_units = models.DecimalField(max_digits=78, decimal_places=0)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["meter", "call_id"], name="hold_once_a_call"),
            models.CheckConstraint(
                condition=models.Q(fee_base_units__gte=0), name="hold_fee_not_negative"
            ),
        ]


class Token(models.Model):
    """What a bearer token may do. The token itself is derived, shown once and never stored."""

    class Kind(models.TextChoices):
        SCOPED = "scoped", "Scoped token"
        LOGIN = "login", "Signed-in program"  # `infra login`: acts as the wallet itself

    class Action(models.TextChoices):
        INVOKE = "invoke", "Call models"
        PUBLISH = "publish", "Publish models"
        MANAGE = "manage", "Manage models and nodes"
        READ_USAGE = "read:usage", "Read usage"
        ACCOUNT = "account", "Act for the account itself"  # of logins only

    class ModelScope(models.TextChoices):
        ANY = "any", "Every model that the wallet may use"
        OWNED = "owned", "All models that the wallet owns"
        NAMED = "named", "The models named"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.CASCADE, related_name="tokens")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.SCOPED)
    name = models.CharField(max_length=60)
    actions = ArrayField(models.CharField(max_length=20, choices=Action.choices))
    model_scope = models.CharField(max_length=8, choices=ModelScope.choices, default=ModelScope.ANY)
    models_allowed = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    ip_ranges = ArrayField(
        models.CharField(max_length=50), default=list, blank=True, help_text="Empty: everywhere."
    )
    meter = models.ForeignKey(Meter, on_delete=models.PROTECT, related_name="tokens")
    rotated_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")
    user_agent = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(actions__len__gt=0), name="token_may_do_something"
            ),
            models.CheckConstraint(
                condition=models.Q(model_scope="named", models_allowed__len__gt=0)
                | (~models.Q(model_scope="named") & models.Q(models_allowed__len=0)),
                name="token_names_models_where_it_says_so",
            ),
            models.CheckConstraint(
                condition=models.Q(kind="login") | ~models.Q(actions__contains=["account"]),
                name="token_scoped_is_not_the_account",
            ),
        ]


class Narrowing(models.Model):
    """A token that its holder narrowed offline, known here since it was first used or revoked.

    ``id`` is a digest of its MAC, so the row cannot be turned into the token.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    token = models.ForeignKey(Token, on_delete=models.CASCADE, related_name="narrowings")
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")
    depth = models.PositiveSmallIntegerField()
    caveat = models.JSONField()  # as signed: see inframind.lib.scopes
    meter = models.ForeignKey(Meter, null=True, on_delete=models.PROTECT, related_name="narrowings")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    revoked_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(depth__gte=1, depth__lte=5), name="narrowing_depth"
            )
        ]
