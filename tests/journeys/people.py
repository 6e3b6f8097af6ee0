"""Somebody of every role, signed in on real servers, and a model of every kind between them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inframind.lib.access import Kind, Role
from tests.journeys.market import Market, fresh_name, fresh_wallet

DOCUMENT = {"content": "iVBORw0KGgo="}
VERSION = "1.0.0"
_ACCESS = {
    Kind.OPEN_MODEL: "{public: true}",
    Kind.GATED_MODEL: "{public: true, auth_required: true}",
    Kind.LISTED_MODEL: '{{public: true, auth_required: true, allow_list: ["{allowed}"]}}',
    Kind.PRIVATE_MODEL: '{{public: false, auth_required: true, allow_list: ["{allowed}"]}}',
}


@dataclass(frozen=True)
class Person:
    """A wallet with what it can show: a browser's cookie, a login, and scoped tokens."""

    role: Role
    address: str = ""
    cookie: str = ""
    login: str = ""
    scoped: dict[str, str] = field(default_factory=dict)  # one token per scope, that scope alone
    elsewhere: str = ""  # every scope, for another model

    @property
    def roles(self) -> set[Role]:
        """The roles that do not depend on an object."""
        if self.role is Role.STRANGER:
            return set()
        lasting = {self.role} & {Role.CURATOR, Role.STAFF}
        return {Role.SIGNED_IN, *lasting}


@dataclass(frozen=True)
class Town:
    """``models`` and ``receipts`` by kind; the owner owns every model."""

    people: dict[Role, Person]
    models: dict[Kind, str]
    receipts: dict[Kind, str]


def settle(market: Market, folder: Path) -> Town:
    """Publishes a verified model of each kind and gives everybody their credentials."""
    people = newcomers(market)
    owner, allowed = people[Role.OWNER], people[Role.ALLOWED]
    models: dict[Kind, str] = {}
    for kind, access in _ACCESS.items():
        name = fresh_name(kind.value.partition(" ")[0])
        package = market.package(
            "filetype-v1",
            name,
            folder,
            access=access.format(allowed=allowed.address) if "{allowed}" in access else access,
        )
        market.register(package, token=owner.login)
        models[kind] = name
    for name in models.values():
        market.await_state(name, token=owner.login)
    receipts = {
        Kind.RECEIPT: _called(market, models[Kind.OPEN_MODEL], allowed.login),
        Kind.PRIVATE_RECEIPT: _called(market, models[Kind.PRIVATE_MODEL], owner.login),
    }
    return Town(people, models, receipts)


def _called(market: Market, name: str, token: str) -> str:
    with market.http(token) as http:
        answer = http.post(f"/inference/v1/{name}", json=DOCUMENT)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["Inframind-Receipt"])


def newcomers(market: Market) -> dict[Role, Person]:
    """Somebody of every role, with credentials; nobody owns or is allowed anything yet."""
    wallets = {role: fresh_wallet() for role in Role if role is not Role.STRANGER}
    made = json.loads(market.domain(_MAKING.format(wallets=json.dumps(wallets))))
    people = {Role(role): Person(role=Role(role), **given) for role, given in made.items()}
    return {Role.STRANGER: Person(role=Role.STRANGER), **people}


# What signing in and enrolling have tests of their own for: here only the outcome counts.
_MAKING = """
import json
import time
from datetime import timedelta
from django_otp import DEVICE_ID_SESSION_KEY
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.utils import timezone
from inframind.identity import seats, services
from inframind.identity.models import SecondFactor, Wallet
from inframind.identity.sessions import SessionStore
from inframind.lib.access import Scope

wallets = json.loads('''{wallets}''')
staff = Wallet.objects.of(wallets["staff"])
staff.is_staff = True
staff.save()
curator = Wallet.objects.of(wallets["curator"])
seats.appoint_curator(
    wallet=curator, ends_at=timezone.now() + timedelta(days=1), reason="For the table.",
    granted_by=staff,
)
scopes = [scope.value for scope in Scope if scope is not Scope.ACCOUNT]
made = {{}}
for role, address in wallets.items():
    wallet = Wallet.objects.of(address)
    session = SessionStore()
    session[SESSION_KEY] = wallet.pk
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = wallet.get_session_auth_hash()
    session["signed_in_at"] = int(time.time())
    if role in ("staff", "curator"):
        device = SecondFactor.objects.create(user=wallet, name="Authenticator", confirmed=True)
        session[DEVICE_ID_SESSION_KEY] = device.persistent_id
        session["second_factor_verified_at"] = int(time.time())
    session.create()
    hour = {{"wallet": wallet, "lifetime": timedelta(hours=1)}}
    _, login = services.mint_token(
        **hour, name="login", kind="login", model_scope="any",
        actions=[scope.value for scope in Scope],
    )
    scoped = {{
        scope: services.mint_token(**hour, name=scope, model_scope="any", actions=[scope])[1]
        for scope in scopes
    }}
    _, elsewhere = services.mint_token(
        **hour, name="elsewhere", model_scope="named", models_allowed=["elsewhere"], actions=scopes
    )
    made[role] = {{
        "address": wallet.pk, "cookie": session.session_key, "login": login, "scoped": scoped,
        "elsewhere": elsewhere,
    }}
print(json.dumps(made))
"""


def browser(person: Person) -> dict[str, str]:
    """The headers of the person's browser: cookie, and the token that Django's forms want."""
    csrf = "c" * 32
    session = f"; session={person.cookie}" if person.cookie else ""
    return {"Cookie": f"csrftoken={csrf}{session}", "X-CSRFToken": csrf}


def credentials(person: Person, scope: str | None) -> dict[str, tuple[str, Any]]:
    """Tokens by what they are to a route that asks for ``scope``: (kind, text)."""
    if person.role is Role.STRANGER:
        return {"none": ("none", "")}
    found = {"login": ("full", person.login), "elsewhere": ("elsewhere", person.elsewhere)}
    for each, token in person.scoped.items():
        good = scope is None or each == scope
        found.setdefault("scoped" if good else "without", ("full" if good else "without", token))
    return found
