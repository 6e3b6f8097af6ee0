"""Odd input on every address of access, groups and standing: refused in words, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import AllowEntry, Model
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import PRIVATE, login

GUEST = "0x4444444444444444444444444444444444444444"
API = "/api/v1/models/echo-text"
VALUES: list[Any] = [
    "\0", "@\0", "\ud800", "a" * 70_000, "9999999d", "@", None, True, -1, 1e308, [], {}, [[]],
    [None], "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1e99 IFM", "NaN",
]  # fmt: skip
BODIES: dict[tuple[str, str], list[str]] = {
    ("patch", f"{API}/access"): ["public", "auth_required", "restricted", "reason"],
    ("post", f"{API}/access/entries"): ["entries"],
    ("post", f"{API}/access/requests"): ["message"],
    ("post", f"{API}/versions/1.0.0/deprecate"): ["successor", "sunset_at", "reason"],
    ("patch", f"{API}/versions/1.0.0/terms"): [
        "per_request_fee", "payout_address", "expires_at", "reason",
    ],
    ("post", "/api/v1/groups"): ["name"],
    ("post", "/api/v1/groups/acme/members"): ["members"],
    ("post", "/api/v1/models"): ["allow_list", "reference", "cid", "name", "version"],
}  # fmt: skip
LINES = ["address", "group", "expires_in", "expires_at", "note"]
WALKED = ["%00", "@%00", "@a%00", "0x%00", "%ED%A0%80", "@%ED%A0%80", "%F0%9F%8D%B0", "a" * 3000]


@pytest.fixture
def model(activated: Publish, owner: Wallet) -> Model:
    services.create_group(owner=owner, name="acme")
    found = activated(PRIVATE).model
    services.allow(model=found, guests=[Guest(GUEST)], changed_by=owner)
    return found


@pytest.fixture
def headers(owner: Wallet) -> dict[str, str]:
    return login(owner)


def bodies() -> Iterator[tuple[str, str, Any]]:
    for (method, path), keys in BODIES.items():
        for value in VALUES:
            yield method, path, value
            for key in keys:
                yield method, path, {key: value}
                if key in ("entries", "members"):
                    for line in LINES:
                        yield method, path, {key: [{"address": GUEST, line: value}]}
                    yield method, path, {key: [{"group": value}]}


def test_no_body_makes_the_api_fail(
    model: Model, headers: dict[str, str], client: Client, settings: Any
) -> None:
    settings.ACCESS_REQUESTS_PER_HOUR = 10_000
    client.raise_request_exception = False
    wrong = {}
    for method, path, body in bodies():
        text = json.dumps(body)
        send = getattr(client, method)
        answer = send(path, text, content_type="application/json", headers=headers)
        if answer.status_code >= 500:
            wrong[method, path, text[:80]] = answer.status_code
    assert wrong == {}


def test_no_address_makes_the_api_or_a_page_fail(
    model: Model, owner: Wallet, headers: dict[str, str], client: Client
) -> None:
    client.raise_request_exception = False
    client.force_login(owner)
    routes = [
        ("delete", f"{API}/access/entries/{{}}"),
        ("patch", f"{API}/access/requests/{{}}"),
        ("put", f"{API}/nodes/{{}}"),
        ("delete", f"{API}/nodes/{{}}"),
        ("get", "/api/v1/groups/{}"),
        ("delete", "/api/v1/groups/{}"),
        ("post", "/api/v1/groups/{}/members"),
        ("delete", "/api/v1/groups/acme/members/{}"),
        ("get", "/api/v1/models/{}/access"),
        ("post", "/api/v1/models/{}/access/requests"),
        ("get", "/api/v1/models/{}/package-key"),
        ("post", f"{API}/versions/{{}}/deprecate"),
        ("patch", f"{API}/versions/{{}}/terms"),
        ("get", "/models/{}/manage"),
        ("post", "/models/{}/ask"),
        ("get", "/account/groups/{}"),
        ("get", "/models/echo-text/manage?section={}"),
        ("get", "/models/echo-text/manage?version={}"),
    ]
    wrong = {}
    for method, path in routes:
        for part in WALKED:
            answer = getattr(client, method)(path.format(part), headers=headers)
            if answer.status_code >= 500:
                wrong[method, path, part[:20]] = answer.status_code
    assert wrong == {}


def test_no_form_makes_a_page_fail(model: Model, owner: Wallet, client: Client) -> None:
    client.raise_request_exception = False
    client.force_login(owner)
    whole_model = {
        "remove": ["who"],
        "allow": ["who", "ends", "note"],
        "import": ["lines"],
        "policy": ["policy", "reason"],
        "decide": ["request", "ends", "answer", "tell", "verdict"],
        "name-node": ["node"],
        "unname-node": ["node"],
        "deprecate": ["successor", "sunset_at", "reason"],
        "terms": ["per_request_fee", "payout_address", "expires_at", "reason"],
    }
    group = {act: whole_model[act] for act in ("remove", "allow", "import")}
    texts = ["\0", "@\0", "@a\0", "9999999d", "1e99 IFM", '"' + "x" * 200_000, "\x0b,\u2028@a,30d"]
    wrong = {}
    for path, acts in (("/models/echo-text/manage", whole_model), ("/account/groups/acme", group)):
        sent = [
            {"do": act, **dict.fromkeys(keys, text)} for act, keys in acts.items() for text in texts
        ]
        sent += [
            {"do": "allow", "who": GUEST, key: text} for key in ("ends", "note") for text in texts
        ]
        for data in sent:
            answer = client.post(path, data)
            if answer.status_code >= 500:
                wrong[path, data["do"], str(data)[:60]] = answer.status_code
        for content in (b"\xff\xfe", b"\0\0", b'"' + b"x" * 200_000, b"\xef\xbb\xbfaddress\n"):
            file = SimpleUploadedFile("list.csv", content)
            answer = client.post(path, {"do": "import", "file": file})
            if answer.status_code >= 500:
                wrong[path, "import", str(content[:10])] = answer.status_code
    assert wrong == {}
    assert AllowEntry.objects.filter(model=model, address=GUEST).count() == 1
