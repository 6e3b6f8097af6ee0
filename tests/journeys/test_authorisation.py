"""Every route as every role: what is answered is what the table says, and no route is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from inframind.lib.access import Kind, Refusal, Role, Rule, holds, rules_of
from tests.journeys.market import Market
from tests.journeys.people import (
    DOCUMENT,
    VERSION,
    Person,
    Town,
    browser,
    credentials,
    newcomers,
    settle,
)

pytestmark = pytest.mark.xdist_group("authorisation")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What ends the very credential that it is sent with.
ENDING = {
    "POST api/v1/auth/logout",
    "DELETE api/v1/account/sessions",
    "POST account/sessions/end-others",
    "POST signout",
}
# How an address says that there is no such thing, or none for you.
MISSING = ("no model called", "no receipt with this id")
API = ("api/v1/", "inference/", "v2/")
LET_IN, SIGN_IN, FORBIDDEN, HIDDEN, SCOPE = "let in", "401", "403", "404", "scope"
# What an address takes where no case is about it.
_ANYTHING: dict[str, Callable[[], str]] = {"uuid": lambda: str(uuid4()), "int": lambda: "1"}
# An id that nothing has.
NOBODYS = "0b0b0b0b-0b0b-7b0b-8b0b-0b0b0b0b0b0b"


@dataclass(frozen=True)
class Route:
    """One address with what its view declares, method by method."""

    path: str
    view: Any

    @property
    def cls(self) -> Any:
        return getattr(self.view, "cls", None) or getattr(self.view, "view_class", None)

    @property
    def permissions(self) -> dict[str, str]:
        declared = getattr(self.cls, "permissions", None) or getattr(self.view, "permissions", None)
        return dict(declared or {})

    @property
    def is_api(self) -> bool:
        return self.path.startswith(API)


def _routes(patterns: list[Any], prefix: str = "") -> Iterator[Route]:
    for each in patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _routes(each.url_patterns, path)
        elif isinstance(each, URLPattern):
            yield Route(path.lstrip("^"), each.callback)


EVERY = list(_routes(get_resolver().url_patterns))
ROUTES = [each for each in EVERY if not each.path.startswith(("admin/", "static/"))]
ADMIN = [each for each in EVERY if each.path.startswith("admin/")]
CASES = [(each, method) for each in ROUTES for method in each.permissions]


@pytest.fixture(scope="module")
def town(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Town:
    return settle(market, tmp_path_factory.mktemp("town"))


@pytest.fixture(scope="module")
def http(market: Market) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=market.url, timeout=60) as client:
        yield client


def test_every_route_says_for_each_of_its_methods_which_permission_it_asks_for() -> None:
    silent = [each.path for each in ROUTES if not each.permissions]
    assert silent == []
    handled = {
        each.path: {method for method in METHODS if hasattr(each.cls, method.lower())}
        for each in ROUTES
        if each.cls is not None and hasattr(each.cls, "permissions")
    }
    declared = {each.path: set(each.permissions) for each in ROUTES if each.path in handled}
    assert declared == handled


def test_every_permission_of_the_table_is_asked_for_somewhere() -> None:
    from inframind.lib.access import PERMISSIONS

    asked = {permission for each in EVERY for permission in each.permissions.values()}
    # The admin portal's pages are Django's: they ask through its site class. A call's address asks
    # for another permission with ``?explain=1``.
    assert set(PERMISSIONS) - asked == {"admin.administer", "code.review", "route.explain"}


@pytest.mark.parametrize(
    ("route", "method"), CASES, ids=[f"{method} {each.path}" for each, method in CASES]
)
def test_every_role_is_answered_as_the_table_says(
    market: Market, http: httpx.Client, town: Town, route: Route, method: str
) -> None:
    wrong: list[str] = []
    if f"{method} {route.path}" in ENDING:
        town = replace(town, people=newcomers(market))
    for rule in rules_of(route.permissions[method]):
        for person in town.people.values():
            for shown, kind, answer in _answers(http, town, route, method, rule, person):
                got = _outcome(answer)
                want = _expected(route, rule, person, kind)
                if got != want:
                    wrong.append(
                        f"{rule.kind} as {person.role} with {shown}: {want} expected, {got} given: "
                        f"{answer.status_code} {answer.text[:200]}"
                    )
    assert wrong == []


@pytest.mark.parametrize(
    "route",
    [each for each in EVERY if not each.is_api and (each in ADMIN or "POST" in each.permissions)],
    ids=lambda each: each.path,
)
def test_no_form_is_taken_without_the_token_of_its_page(
    http: httpx.Client, town: Town, route: Route
) -> None:
    values = {**_values(town, rules_of("model.call")[0]), "object_id": NOBODYS}
    path = "/" + _filled(route.path, values).replace("(?P<url>.*)$", "nothing/")
    headers = browser(town.people[Role.STAFF if route in ADMIN else Role.OWNER])
    del headers["X-CSRFToken"]
    answer = _sent(http, "POST", path, headers=headers, data={"reason": "Because."})
    assert answer.status_code == 403
    assert re.findall(r"<h1>(.*?)</h1>", answer.text) == ["This form is too old to be sent"]


@pytest.mark.parametrize("route", ADMIN, ids=lambda each: each.path)
def test_nobody_but_staff_and_curators_learns_of_the_admin_portal(
    http: httpx.Client, town: Town, route: Route
) -> None:
    path = "/" + _filled(route.path, {}).replace("(?P<url>.*)$", "nothing/")
    answers = {
        role: _sent(http, "GET", path, headers=browser(person))
        for role, person in town.people.items()
    }
    assert answers[Role.STRANGER].status_code in (302, 404)
    if answers[Role.STRANGER].status_code == 302:
        assert unquote(answers[Role.STRANGER].headers["Location"]).startswith(
            "/signin?next=/admin/"
        )
    for role in (Role.SIGNED_IN, Role.ALLOWED, Role.OWNER):
        assert answers[role].status_code == 404, (role, answers[role].status_code)
    assert answers[Role.STAFF].status_code < 500
    assert answers[Role.CURATOR].status_code < 500


def _answers(
    http: httpx.Client, town: Town, route: Route, method: str, rule: Rule, person: Person
) -> Iterator[tuple[str, str, httpx.Response]]:
    path = "/" + _filled(route.path, _values(town, rule))
    if not route.is_api:
        sent = _sent(http, method, path, headers=browser(person))
        yield "a session", "full" if person.cookie else "none", sent
        return
    body: dict[str, Any] = DOCUMENT if route.path.startswith("inference/") else {}
    json = None if method in ("GET", "DELETE") else body
    for shown, (kind, token) in credentials(person, _scope(rule)).items():
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        yield shown, kind, _sent(http, method, path, json=json, headers=headers)


def _sent(http: httpx.Client, method: str, path: str, **request: Any) -> httpx.Response:
    # What one was given is not the next one's.
    http.cookies.clear()
    return http.request(method, path, **request)


def _scope(rule: Rule) -> str | None:
    return rule.scope.value if rule.scope else None


def _values(town: Town, rule: Rule) -> dict[str, str]:
    name = town.models.get(rule.kind, town.models[Kind.PRIVATE_MODEL])
    return {
        "name": name,
        "reference": name,
        "version": VERSION,
        "call_id": town.receipts.get(rule.kind, NOBODYS),
        "slug": "agent-compatible",
        "node": "node-a",
        "who": "0x" + "11" * 20,
        "address": "0x" + "11" * 20,
        "hash": "0x" + "11" * 32,
    }


def _filled(path: str, values: dict[str, str]) -> str:
    filled = path
    while "<" in filled:
        start, end = filled.index("<"), filled.index(">")
        kind, _, key = filled[start + 1 : end].rpartition(":")
        value = values.get(key, _ANYTHING.get(kind, str)() or NOBODYS)
        filled = filled[:start] + value + filled[end + 1 :]
    return filled


def _outcome(answer: httpx.Response) -> str:
    assert answer.status_code < 500, answer.text[:500]
    location = answer.headers.get("Location", "")
    if answer.status_code == 401 or (answer.is_redirect and location.startswith("/signin?")):
        return SIGN_IN
    if answer.status_code == 403:
        return SCOPE if "insufficient-scope" in answer.text else FORBIDDEN
    if answer.status_code == 404 and any(each in answer.text for each in MISSING):
        return HIDDEN
    return LET_IN


def _expected(route: Route, rule: Rule, person: Person, shown: str) -> str:
    """What the table says. ``shown`` is how far the credential reaches."""
    names_model = "<str:name>" in route.path or "<str:reference>" in route.path
    if shown == "elsewhere" and not names_model and "receipts/" not in route.path:
        # For another model, but this is about none: only what no token has is out of its reach.
        shown = "without" if rule.scope == "account" else "full"
    scopes = {each.scope for each in rules_of(rule.permission)}
    if None not in scopes and shown in ("without", "elsewhere"):
        return SCOPE
    roles = set(person.roles)
    if shown != "elsewhere":
        roles |= {person.role} & {Role.ALLOWED, Role.OWNER}
    if holds(rule.permission, rule.kind, roles):
        return SCOPE if shown in ("without", "elsewhere") and rule.scope else LET_IN
    if rule.refusal is Refusal.HIDDEN:
        known = rule.kind is Kind.PRIVATE_MODEL and holds("model.see", rule.kind, roles)
        return FORBIDDEN if known else HIDDEN
    return SIGN_IN if person.role is Role.STRANGER else FORBIDDEN
