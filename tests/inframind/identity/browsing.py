"""A browser of a wallet that is signed in, for the tests of the account's pages."""

from __future__ import annotations

import time
from typing import Any

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.test import Client
from django_otp.oath import TOTP

from inframind.identity import second_factor
from inframind.identity.models import SecondFactor, Wallet
from inframind.identity.sessions import SessionStore

OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
THIRD = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"


def browser_of(
    wallet: Wallet,
    *,
    strict: bool = False,
    user_agent: str = FIREFOX,
    signed_in_ago_seconds: int = 0,
) -> Client:
    """Signed in, without a signature; ``strict`` enforces the forms' safety mark."""
    store = SessionStore()
    store[SESSION_KEY] = wallet.pk
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = wallet.get_session_auth_hash()
    store["signed_in_at"] = int(time.time()) - signed_in_ago_seconds
    store["browser"] = {"user_agent": user_agent, "remote_address": "192.0.2.7"}
    store.create()
    client = Client(enforce_csrf_checks=strict)
    client.cookies["session"] = store.session_key or ""
    return client


def page_of(response: Any) -> str:
    page: str = response.content.decode()
    return page


def code_of(device: SecondFactor, *, steps: int = 0) -> str:
    """What the authenticator app shows, now or some half minutes later."""
    app = TOTP(device.bin_key, device.step, device.t0, device.digits)
    app.time = time.time() + steps * device.step
    return f"{app.token():06d}"


def enrolled(wallet: Wallet) -> list[str]:
    """A wallet with a second factor; its recovery codes. The code of now is used up."""
    second_factor.begin(wallet=wallet)
    device = SecondFactor.objects.get(user=wallet)
    _, codes = second_factor.confirm(wallet=wallet, code=code_of(device))
    return codes


def verified(wallet: Wallet) -> Client:
    """A browser that has shown the second factor, which it sets up for that."""
    [code, *_] = enrolled(wallet)
    client = browser_of(wallet)
    answer = client.post("/account/verify", {"code": code, "next": "/admin/"})
    assert answer.headers["Location"] == "/admin/"
    return client
