"""REST of access, groups and requests, and of what an owner changes on a version."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import AllowEntry, Model
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, OWNER, PRIVATE, STRANGER, bearer, login

ACCESS = "/api/v1/models/echo-text/access"
GUEST = "0x4444444444444444444444444444444444444444"
JSON = "application/json"


@pytest.fixture
def private(activated: Publish) -> Model:
    return activated(PRIVATE).model


def test_the_owner_reads_and_changes_policy_and_list(
    client: Client, private: Model, owner: Wallet
) -> None:
    headers = bearer(owner, "manage")
    entries = [{"address": GUEST, "expires_in": "24h", "note": "demo"}, {"address": STRANGER}]
    answer = client.post(f"{ACCESS}/entries", {"entries": entries}, JSON, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"added": 2, "changed": 0, "unchanged": 0})
    read = client.get(ACCESS, headers=headers)
    document = read.json()
    assert {key: document[key] for key in ("public", "auth_required", "restricted")} == {
        "public": False,
        "auth_required": True,
        "restricted": True,
    }
    assert [(each["who"], each["note"], each["expired"]) for each in document["entries"]] == [
        (GUEST, "demo", False),
        (STRANGER, "", False),
    ]
    assert document["open_requests"] == 0
    tag = read.headers["ETag"]
    gone = client.delete(f"{ACCESS}/entries/{STRANGER.lower()}", headers=headers)
    assert (gone.status_code, AllowEntry.objects.count()) == (204, 1)
    assert client.delete(f"{ACCESS}/entries/{STRANGER}", headers=headers).status_code == 404
    stale = client.patch(ACCESS, {"public": True}, JSON, headers={**headers, "If-Match": tag})
    assert stale.status_code == 412
    fresh = client.get(ACCESS, headers=headers).headers["ETag"]
    changed = client.patch(
        ACCESS,
        {"public": True, "restricted": False, "auth_required": False, "reason": "Open"},
        JSON,
        headers={**headers, "If-Match": fresh},
    )
    assert changed.status_code == 200
    assert (changed.json()["public"], changed.headers["ETag"] != fresh) == (True, True)
    history = client.get(f"{ACCESS}/history", headers=headers).json()["history"]
    assert [line["what"] for line in history] == [
        "policy",
        "removed",
        "allowed",
        "allowed",
        "policy",
    ]


def test_private_follows_from_public_false_and_contradictions_are_refused(
    client: Client, activated: Publish, owner: Wallet
) -> None:
    activated()
    headers = bearer(owner, "manage")
    answer = client.patch(ACCESS, {"public": False, "reason": "Ours"}, JSON, headers=headers)
    assert (answer.status_code, answer.json()["restricted"]) == (200, True)
    assert "stored readable" in answer.json()["notices"][0]
    bad = client.patch(ACCESS, {"restricted": False}, JSON, headers=headers)
    assert bad.status_code == 422


WRITES: list[tuple[str, str, Any]] = [
    ("GET", ACCESS, None),
    ("PATCH", ACCESS, {"public": True}),
    ("POST", f"{ACCESS}/entries", {"entries": [{"address": GUEST}]}),
    ("DELETE", f"{ACCESS}/entries/{GUEST}", None),
    ("GET", f"{ACCESS}/history", None),
    ("GET", f"{ACCESS}/requests", None),
    ("POST", "/api/v1/models/echo-text/versions/1.0.0/deprecate", {}),
    ("PATCH", "/api/v1/models/echo-text/versions/1.0.0/terms", {"per_request_fee": "1 IFM"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_it_is_the_owner_s_alone(
    client: Client,
    activated: Publish,
    owner: Wallet,
    stranger: Wallet,
    method: str,
    path: str,
    body: Any,
) -> None:
    model = activated(PRIVATE).model
    activated(MANIFEST.replace("echo-text", "open-one"))

    def ask(headers: dict[str, str], name: str = "echo-text") -> tuple[int, str]:
        answer = client.generic(
            method,
            path.replace("echo-text", name),
            client._encode_json(body, JSON) if body is not None else b"",  # type: ignore[attr-defined]
            JSON,
            headers=headers,
        )
        return answer.status_code, answer.content.decode().replace(name, "NAME").replace(
            str(answer.headers["X-Request-Id"]), "ID"
        )

    strange = bearer(stranger, "manage")
    assert ask(strange) == ask(strange, "nobody-has")
    assert ask(strange)[0] == 404
    assert ask({}) == ask({}, "nobody-has")
    assert (ask({})[0], ask({}, "open-one")[0]) == (404, 401)
    assert ask(strange, "open-one")[0] == 403
    services.allow(model=model, guests=[Guest(stranger.pk)], changed_by=owner)
    # Whoever is on the list knows the model, and is told that this is not theirs to do.
    assert ask(strange)[0] == 403
    for headers in (bearer(owner, "invoke"), bearer(owner, "manage", only=("other-one",))):
        assert (ask(headers)[0], ask(headers)) == (403, ask(headers, "nobody-has"))


def test_a_token_for_own_models_is_told_one_403_for_all_others(
    client: Client, activated: Publish, owner: Wallet, stranger: Wallet
) -> None:
    activated(PRIVATE)
    activated(MANIFEST.replace("echo-text", "open-one"))
    headers = bearer(stranger, "manage", owned=True)
    answers = {
        client.get(ACCESS.replace("echo-text", name), headers=headers)
        .content.decode()
        .replace(name, "NAME")
        .partition("instance")[0]
        for name in ("echo-text", "open-one", "nobody-has")
    }
    assert len(answers) == 1
    assert "insufficient-scope" in answers.pop()
    assert client.get(ACCESS, headers=bearer(owner, "manage", owned=True)).status_code == 200


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [{}],
        [{"address": GUEST, "group": "g"}],
        [{"address": GUEST, "expires_in": "soon"}],
        [{"address": GUEST, "expires_in": "1h", "expires_at": "2099-01-01T00:00:00Z"}],
        [{"address": GUEST, "expires_at": "2001-01-01T00:00:00Z"}],
        [{"address": "0x\0"}],
        [{"address": GUEST}] * 1001,
        "x",
        None,
    ],
)
def test_entries_that_cannot_be_used_are_refused_with_their_place(
    client: Client, private: Model, owner: Wallet, entries: Any
) -> None:
    headers = bearer(owner, "manage")
    answer = client.post(f"{ACCESS}/entries", {"entries": entries}, JSON, headers=headers)
    assert (answer.status_code, AllowEntry.objects.count()) == (422, 0)
    assert answer.json()["violations"][0]["pointer"].startswith("/entries")


def test_groups_come_and_go(client: Client, private: Model, owner: Wallet) -> None:
    headers = login(owner)
    made = client.post("/api/v1/groups", {"name": "partners"}, JSON, headers=headers)
    assert (made.status_code, made.json()["members"]) == (201, [])
    members = {"members": [{"address": GUEST, "expires_in": "30d", "note": "Ada"}]}
    added = client.post("/api/v1/groups/partners/members", members, JSON, headers=headers)
    assert added.json() == {"added": 1, "changed": 0, "unchanged": 0}
    client.post(f"{ACCESS}/entries", {"entries": [{"group": "partners"}]}, JSON, headers=headers)
    [line] = client.get("/api/v1/groups", headers=headers).json()["groups"]
    assert (line["name"], line["members"], line["lists"]) == ("partners", 1, 1)
    read = client.get("/api/v1/groups/partners", headers=headers).json()
    assert ([each["address"] for each in read["members"]], read["models"]) == (
        [GUEST],
        ["echo-text"],
    )
    member = f"/api/v1/groups/partners/members/{GUEST}"
    assert [client.delete(member, headers=headers).status_code for _ in range(2)] == [204, 404]
    assert client.delete(f"{ACCESS}/entries/@partners", headers=headers).status_code == 204
    group = "/api/v1/groups/partners"
    assert [client.delete(group, headers=headers).status_code for _ in range(2)] == [204, 404]
    assert client.get("/api/v1/groups", headers=bearer(owner, "manage")).status_code == 403
    assert client.get("/api/v1/groups").status_code == 401


def test_asking_and_answering(
    client: Client, private: Model, owner: Wallet, stranger: Wallet
) -> None:
    ask = {"message": "For our museum."}
    path = f"{ACCESS}/requests"
    asked = client.post(path, ask, JSON, headers=login(stranger))
    assert asked.status_code == 202
    assert client.post(path, ask, JSON).status_code == 401
    assert client.post(path, ask, JSON, headers=bearer(stranger, "manage")).status_code == 403
    headers = bearer(owner, "manage")
    [request] = client.get(path, headers=headers).json()["requests"]
    assert (request["wallet"], request["message"], request["state"]) == (
        STRANGER,
        "For our museum.",
        "open",
    )
    approval = {"state": "approved", "expires_in": "30d", "answer": "Welcome."}
    one = f"{path}/{request['id']}"
    decided = client.patch(one, approval, JSON, headers=headers)
    assert (decided.status_code, decided.json()["state"]) == (200, "approved")
    assert client.patch(one, approval, JSON, headers=headers).status_code == 409
    assert client.patch(one, {"state": "open"}, JSON, headers=headers).status_code == 422
    [mine] = client.get("/api/v1/account/access-requests", headers=login(stranger)).json()[
        "requests"
    ]
    assert (mine["model"], mine["state"], mine["answer"]) == ("echo-text", "approved", "Welcome.")
    assert client.get("/api/v1/models/echo-text", headers=login(stranger)).status_code == 200


def test_a_version_is_deprecated_for_another(
    client: Client, activated: Publish, owner: Wallet
) -> None:
    activated()
    activated(MANIFEST.replace("1.0", "2.0"))
    path = "/api/v1/models/echo-text/versions/1.0/deprecate"
    headers = bearer(owner, "manage")
    sunset = (timezone.now() + timedelta(days=30)).isoformat()
    for bad in ({"successor": "9.9.9"}, {"successor": "1.0.0"}, {"sunset_at": "2001-01-01T00:00Z"}):
        assert client.post(path, bad, JSON, headers=headers).status_code == 422
    body = {"successor": "2.0", "sunset_at": sunset, "reason": "Faster now."}
    answer = client.post(path, body, JSON, headers=headers)
    assert answer.status_code == 200, answer.content
    assert (answer.json()["state"], answer.json()["successor"], answer.json()["state_reason"]) == (
        "deprecated",
        "echo-text@2.0.0",
        "Faster now.",
    )


def test_a_deprecation_is_completed_later(
    client: Client, activated: Publish, owner: Wallet
) -> None:
    activated()
    activated(MANIFEST.replace("1.0", "2.0"))
    path = "/api/v1/models/echo-text/versions/1.0/deprecate"
    headers = bearer(owner, "manage")
    sunset = (timezone.now() + timedelta(days=30)).isoformat()
    shown = []
    changes = (
        {"reason": "Slow."},
        {"successor": "2.0"},
        {"sunset_at": sunset},
        {"sunset_at": None, "reason": "Slower."},
        {"successor": ""},
    )
    for change in changes:
        answer = client.post(path, change, JSON, headers=headers)
        assert answer.status_code == 200, answer.content
        told = answer.json()
        shown.append((told["successor"], told["sunset_at"] is not None, told["state_reason"]))
    assert shown == [
        (None, False, "Slow."),
        ("echo-text@2.0.0", False, "Slow."),
        ("echo-text@2.0.0", True, "Slow."),
        ("echo-text@2.0.0", False, "Slower."),
        (None, False, "Slower."),
    ]


def test_a_second_deprecation_keeps_the_time_of_the_first(activated: Publish) -> None:
    version = activated()
    seen = set()
    for reason in ("one", "two"):
        services.deprecate(version=version, successor=None, sunset_at=None, reason=reason)
        version.refresh_from_db()
        seen.add(version.deprecated_at)
    assert (len(seen), version.state_reason) == (1, "two")


def test_terms_change_in_part(client: Client, activated: Publish, owner: Wallet) -> None:
    activated()
    path = "/api/v1/models/echo-text/versions/1.0.0/terms"
    headers = bearer(owner, "manage")
    answer = client.patch(path, {"per_request_fee": "0.5 IFM"}, JSON, headers=headers)
    assert (answer.status_code, answer.json()["fee"]["text"]) == (200, "0.5 IFM")
    assert answer.json()["payout_address"] == OWNER
    later = (timezone.now() + timedelta(days=1)).isoformat()
    for change in ({"payout_address": GUEST}, {"expires_at": later}, {"expires_at": None}):
        answer = client.patch(path, change, JSON, headers=headers)
    assert (answer.json()["payout_address"], answer.json()["expires_at"]) == (GUEST, None)
    assert answer.json()["fee"]["text"] == "0.5 IFM"
    for bad in ({"per_request_fee": "-1 IFM"}, {"payout_address": "0x1"}, {"expires_at": "soon"}):
        assert client.patch(path, bad, JSON, headers=headers).status_code == 422
