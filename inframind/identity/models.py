"""Wallets (the users) and the tokens they carry."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower, Now
from django.utils.crypto import salted_hmac

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


class Token(models.Model):
    """What a bearer token may do. The token itself is derived, shown once and never stored."""

    class Action(models.TextChoices):
        INVOKE = "invoke", "Call models"
        PUBLISH = "publish", "Publish models"
        MANAGE = "manage", "Manage models and nodes"
        READ_USAGE = "read:usage", "Read usage"

    id = models.UUIDField(primary_key=True, default=new_uuid7, editable=False)
    wallet = models.ForeignKey(Wallet, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=60)
    actions = ArrayField(models.CharField(max_length=20, choices=Action.choices))
    models_allowed = ArrayField(
        models.CharField(max_length=64), default=list, blank=True, help_text="Empty: every model."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(actions__len__gt=0), name="token_may_do_something"
            )
        ]
