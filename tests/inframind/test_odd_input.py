"""Whatever is sent to whichever route: no answer is a 500."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from inframind.identity import services
from inframind.identity.models import Token, Wallet

from .identity.browsing import OWNER, verified

pytestmark = pytest.mark.django_db

UUID = "0190a000-0000-7000-8000-000000000000"
# A NUL, which PostgreSQL keeps in no text; a digit that is no decimal; more than a column holds.
ODD = ("a%00b", "%C2%B2", "9" * 30)
QUERY = (
    "?q=%00&version=%00&next=%00&task=%00&sort=%00&cursor=%00&owner=%00&runtime=%00&state=%00"
    "&address=%00&days=%C2%B2&limit=%C2%B2&o=999.%C2%B2&e=1"
    "&page=999999999999999999999999999999&p=999999999999999999999999999999"
)
# These would end what the walk is signed in with.
SIGNS_OUT = ("signout", "logout", "logout/", "api/v1/account/sessions")
BODIES = (
    b'[{"token": null}]',
    b'{"name": 1e308, "token": ["a"], "entries": {"a": 1}, "members": 7, "models": null}',
    b'{"name": "\\u0000", "token": "\\u0000", "entries": [1], "members": [null], "expires_in":'
    b' "9999999d", "overlap": "9999999d", "calls_limit": 1e40, "spend_limit": "1e999 IFM",'
    b' "actions": [{}], "models": ["\\u0000"], "ip_ranges": ["\\u0000"], "message": "\\u0000",'
    b' "signature": "\\u0000", "display_name": "\\u0000", "state": {}, "reason": [],'
    b' "successor": 5, "expires_at": "9999-99-99", "public": "\\u0000"}',
    b'{"entries": [{"address": "\\u0000", "expires_in": "9999999d", "note": "\\u0000"}],'
    b' "members": [{"address": 5, "expires_at": "+99999-01-01T00:00:00Z"}], "name": "a",'
    b' "expires_in": "9999999d", "calls_limit": 99999999999999999999, "spend_limit": 5,'
    b' "model_scope": [], "actions": "invoke", "message": 5, "group": []}',
    b'{"amount": "\\u0000", "deadline": "\\u00b2", "signature": [], "raw": "0x\\u0000",'
    b' "relay": "\\u0000", "streams": "\\u0000", "per_day": {}}',
    b'{"amount": "1e999 IFM", "deadline": 1e40, "signature": "0x", "raw": [], "relay": true,'
    b' "streams": [null, "0x"], "per_day": "-1 IFM"}',
    b'{"amount": {"base_units": "' + b"9" * 200 + b'"}, "deadline": -1, "raw": 5,'
    b' "signature": "0x' + b"00" * 70 + b'", "streams": {}, "per_day": 5}',
)
FORM = {
    "name": "a\x00b",
    "display_name": "\x00",
    "actions": ["invoke", "\x00"],
    "model_scope": "named",
    "models": "\x00",
    "expires_in": "date",
    "expires_on": "9999-12-31",
    "calls_limit": "9" * 5_000,
    "spend_limit": "9" * 80,
    "ip_ranges": "::/999 \x00",
    "overlap": "\x00",
    "code": "²²²²²²",
    "message": "\x00",
    "address": "0x" + "\x00" * 40,
    "signature": "0x" + "²" * 130,
    "next": "//elsewhere\x00",
    "reason": "\x00",
    "wallet": "\x00",
    "amount": "9" * 200 + " IFM",
    "deadline": "²",
    "per_day": "\x00",
    "streams": "\x00",
    "relay": "\x00",
}
BAD_REFERER = {"Referer": "http://["}


def _routes(patterns: list[URLPattern | URLResolver], prefix: str = "/") -> Iterator[str]:
    for each in patterns:
        path = prefix + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _routes(each.url_patterns, path)
        else:
            # The two that are expressions: the page of an app, and everything else.
            path = re.sub(r"\^\(\?P<app_label>([a-z_]+)[^)]*\)/\$", r"\1/", path)
            yield path.replace("(?P<url>.*)$", "<url>")


def _addresses() -> list[str]:
    """Every route, with every odd word in each of its places."""
    found = set()
    for route in _routes(get_resolver().url_patterns):
        known = re.sub(r"<uuid:\w+>", UUID, route)
        for odd in ODD:
            number = odd if odd.isdecimal() else "1"
            found.add(re.sub(r"<[^>]*>", odd, re.sub(r"<int:\w+>", number, known)))
    return sorted(each for each in found if not each.endswith(SIGNS_OUT) and "(?P" not in each)


@pytest.fixture
def wallet() -> Wallet:
    wallet = Wallet.objects.of(OWNER)
    wallet.is_staff = True
    wallet.save()
    return wallet


def _faults(answers: Iterator[tuple[str, Any]]) -> list[str]:
    # 503 is an answer: a part that is not running here.
    return [
        what for what, answer in answers if answer.status_code >= 500 and answer.status_code != 503
    ]


def test_the_walk_finds_the_routes() -> None:
    found = _addresses()
    for expected in (
        "/account/sessions/a%00b/end",
        "/admin/identity/seat/%C2%B2/change/",
        "/api/v1/tokens/0190a000-0000-7000-8000-000000000000/rotate",
        "/models/a%00b",
    ):
        assert expected in found


def test_no_page_breaks_on_odd_input(wallet: Wallet) -> None:
    desk = verified(wallet)
    stranger = Client()
    desk.raise_request_exception = stranger.raise_request_exception = False

    def answers() -> Iterator[tuple[str, Any]]:
        for path in _addresses():
            if path.startswith(("/api/", "/inference/")):
                continue
            yield f"GET {path}", desk.get(path + QUERY)
            yield f"POST {path}", desk.post(path, FORM)
            # The door of the portal sends strangers away before it reads a word of the address.
            if path.startswith("/admin/") and any(odd in path for odd in ODD[1:]):
                continue
            yield f"GET {path} by a stranger", stranger.get(path + QUERY)
            yield f"POST {path} by a stranger", stranger.post(path, FORM, headers=BAD_REFERER)

    assert _faults(answers()) == []
    assert desk.get("/admin/").status_code == 200


def test_no_part_of_the_api_breaks_on_odd_input(wallet: Wallet) -> None:
    _, login = services.mint_token(
        wallet=wallet,
        name="login",
        actions=Token.Action.values,
        model_scope="any",
        lifetime=timedelta(days=1),
        kind=Token.Kind.LOGIN,
    )
    program = Client(headers={"Authorization": f"Bearer {login}"}, raise_request_exception=False)

    def answers() -> Iterator[tuple[str, Any]]:
        for path in _addresses():
            if not path.startswith(("/api/", "/inference/")):
                continue
            yield f"GET {path}", program.get(path + QUERY)
            yield f"DELETE {path}", program.delete(path)
            for method in (program.post, program.patch, program.put):
                for number, body in enumerate(BODIES):
                    answer = method(path, body, "application/json")
                    yield f"body {number} to {path}", answer
                    if answer.status_code == 405:
                        break  # whatever the body

    assert _faults(answers()) == []
    assert program.get("/api/v1/account").status_code == 200
