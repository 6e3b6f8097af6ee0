"""The second factor of a wallet: an authenticator app, and recovery codes for its loss.

Nothing that is stored could be used: the app's secret is derived (see ``SecondFactor``), and of a
recovery code there is a keyed digest. django-otp counts wrong guesses and makes the next one wait.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b32encode
from dataclasses import dataclass
from typing import Any, Final

import django_otp
import segno
from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken

from inframind.identity.models import SecondFactor, Wallet
from inframind.lib.problem import Problem

RECOVERY_CODES: Final = 10
VERIFIED_SECONDS: Final = 12 * 3_600
_VERIFIED_AT: Final = "second_factor_verified_at"
# Without the letters and digits that are taken for one another.
_ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
_RECOVERY_CHARACTERS: Final = 10


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator app has to be told. ``secret`` is base32 in groups of four."""

    secret: str
    uri: str

    def qr_svg(self) -> str:
        """The address as a QR code: SVG without styles, in the colour of its place."""
        code = segno.make(self.uri, error="m")
        drawing: str = code.svg_inline(border=4, svgclass="qr", lineclass="qr-dark", omitsize=True)
        return drawing


def factor_of(wallet: Wallet) -> SecondFactor | None:
    """The authenticator app in use."""
    found: SecondFactor | None = SecondFactor.objects.filter(user=wallet, confirmed=True).first()
    return found


def recovery_codes_left(wallet: Wallet) -> int:
    count: int = StaticToken.objects.filter(device__user=wallet, device__confirmed=True).count()
    return count


@transaction.atomic
def begin(*, wallet: Wallet) -> Enrolment:
    """What the app is to be given; the same until it is confirmed. Raises ``Problem`` 409."""
    Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
    if factor_of(wallet) is not None:
        raise _enrolled()
    device = SecondFactor.objects.filter(user=wallet, confirmed=False).first()
    if device is None:
        device = SecondFactor.objects.create(user=wallet, name="Authenticator", confirmed=False)
    secret = b32encode(device.bin_key).decode()
    groups = [secret[start : start + 4] for start in range(0, len(secret), 4)]
    return Enrolment(" ".join(groups), device.config_url)


def confirm(*, wallet: Wallet, code: str) -> tuple[SecondFactor, list[str]]:
    """Puts the app in use once it made a right code. The recovery codes exist only in this answer.

    Raises ``Problem`` 409 when there is nothing to confirm, 422 for a wrong code, 429 while guesses
    have to wait.
    """
    device = SecondFactor.objects.filter(user=wallet, confirmed=False).first()
    if device is None:
        raise _enrolled()
    _verify(wallet, device, code)
    with transaction.atomic():
        Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
        if factor_of(wallet) is not None:
            raise _enrolled()
        SecondFactor.objects.filter(pk=device.pk).update(confirmed=True)
        codes = _new_recovery_codes(wallet)
    device.refresh_from_db()
    return device, codes


def check(*, wallet: Wallet, code: str) -> Any:
    """The device that a code of the app, or an unused recovery code, belongs to.

    Raises ``Problem`` 409 without a second factor, 422 for a wrong code, 429 while guesses wait.
    """
    factor = factor_of(wallet)
    if factor is None:
        raise Problem(
            "second-factor-missing",
            "This wallet has no second factor.",
            status=409,
            remedy="Set one up first.",
        )
    typed = _plain(code)
    if len(typed) == factor.digits and typed.isascii() and typed.isdigit():
        return _verify(wallet, factor, typed)
    recovery = StaticDevice.objects.filter(user=wallet, confirmed=True).first()
    if recovery is None:
        raise _wrong_code()
    return _verify(wallet, recovery, _digest(wallet, typed))


@transaction.atomic
def renew_recovery_codes(*, wallet: Wallet) -> list[str]:
    """Ten new codes; the old ones end. Ask for a fresh code first."""
    return _new_recovery_codes(wallet)


@transaction.atomic
def remove(*, wallet: Wallet) -> bool:
    """Ends the second factor and its recovery codes; whether there was one. Sessions that it
    verified are verified no longer. Ask for a fresh code first."""
    had = factor_of(wallet) is not None
    SecondFactor.objects.filter(user=wallet).delete()
    StaticDevice.objects.filter(user=wallet).delete()
    return had


def mark_verified(request: HttpRequest, device: Any) -> None:
    """The session has shown the second factor, under a new key: a fixed one gains nothing."""
    request.session.cycle_key()
    django_otp.login(request, device)
    request.session[_VERIFIED_AT] = int(time.time())


def is_verified(request: HttpRequest) -> bool:
    """Whether this session has shown the second factor, at most twelve hours ago."""
    verified_at = request.session.get(_VERIFIED_AT)
    if not isinstance(verified_at, int) or not request.user.is_authenticated:
        return False
    fresh = 0 <= time.time() - verified_at < VERIFIED_SECONDS
    return fresh and getattr(request.user, "otp_device", None) is not None


def _verify(wallet: Wallet, device: Any, code: str) -> Any:
    allowed, why = device.verify_is_allowed()
    if not allowed:
        raise _wait(why)
    verified = django_otp.verify_token(wallet, device.persistent_id, _plain(code))
    if verified is None:
        raise _wrong_code()
    return verified


def _new_recovery_codes(wallet: Wallet) -> list[str]:
    StaticDevice.objects.filter(user=wallet).delete()
    device = StaticDevice.objects.create(user=wallet, name="Recovery codes")
    codes = []
    for _ in range(RECOVERY_CODES):
        typed = "".join(secrets.choice(_ALPHABET) for _ in range(_RECOVERY_CHARACTERS))
        StaticToken.objects.create(device=device, token=_digest(wallet, typed))
        codes.append(f"{typed[:5]}-{typed[5:]}")
    return codes


def _plain(code: str) -> str:
    return code.replace(" ", "").replace("-", "").strip().lower()[:64]


def _digest(wallet: Wallet, typed: str) -> str:
    """80 bits, since the column holds 16 characters."""
    key = hashlib.sha256(b"inframind recovery code v1" + settings.SECRET_KEY.encode()).digest()
    mac = hmac.new(key, f"{wallet.pk}:{typed}".encode(), hashlib.sha256).digest()
    return b32encode(mac[:10]).decode().lower()


def _enrolled() -> Problem:
    return Problem(
        "second-factor-exists",
        "This wallet has a second factor already.",
        status=409,
        remedy="Remove it first, with a code of it.",
    )


def _wrong_code() -> Problem:
    return Problem(
        "code-wrong",
        "That code is not right, or was used already.",
        status=422,
        remedy="Type the code that the app shows now; each is good for half a minute, and once.",
    )


def _wait(why: dict[str, Any] | None) -> Problem:
    until = (why or {}).get("locked_until")
    seconds = max(1, int((until - timezone.now()).total_seconds()) + 1) if until else 1
    return Problem(
        "too-many-guesses",
        f"After {(why or {}).get('failure_count', 1)} wrong codes in a row the next one has to "
        f"wait {seconds} s more. The wait doubles with every wrong code.",
        status=429,
        remedy="Wait, then type the code that the app shows then.",
        retry_safe=True,
        retry_after_seconds=seconds,
    )
