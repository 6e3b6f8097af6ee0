"""A private model does not exist for strangers, and serves its owner and whom the owner lets in."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from tests.journeys.market import Market, fresh_name, fresh_wallet

pytestmark = pytest.mark.xdist_group("private")
WORD = "zugspitzkabine"
TEXT = {"text": "Das Wetter ist heute schön und wir fahren an den See."}


@dataclass(frozen=True)
class Private:
    """A verified private model, with tokens of everybody around it."""

    name: str
    cid: str
    receipt: str
    owner: str
    guest: str
    stranger: str


@pytest.fixture(scope="module")
def private(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Private:
    name, owning, guest = fresh_name("secret"), fresh_wallet(), fresh_wallet()
    market.fund(owning, guest)
    folder = market.package(
        "language-id-v1",
        name,
        tmp_path_factory.mktemp("private"),
        access=f'{{public: false, auth_required: true, allow_list: ["{guest}"]}}',
        description=f"Tells languages for the {WORD} only.",
        task=WORD,
        tags=f"[{WORD}]",
        license="LicenseRef-Ours-Alone",
    )
    owner, guests, strangers = market.tokens(
        (owning, "publish", "invoke"),
        (guest, "invoke"),
        (fresh_wallet(), "invoke", "publish"),
    )
    cid = market.register(folder, token=owner)["cid"]
    market.await_state(name, token=owner)
    assert market.manage("refresh_lists").status == 0
    with market.http(owner) as http:
        answer = http.post(f"/inference/v1/{name}", json=TEXT)
    assert answer.status_code == 200, answer.text
    return Private(
        name=name,
        cid=cid,
        receipt=answer.headers["Inframind-Receipt"],
        owner=owner,
        guest=guests,
        stranger=strangers,
    )


@pytest.mark.parametrize("known", [False, True], ids=["anonymous", "stranger"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/models",
        f"/models?q={WORD}",
        f"/models?task={WORD}",
        "/models?sort=newest",
        "/models?license=LicenseRef-Ours-Alone",
        "/models/featured",
        "/collections/agent-compatible",
        "/collections/top-performing",
        "/nodes",
        "/api/v1/models",
        f"/api/v1/models?q={WORD}",
        f"/api/v1/models?task={WORD}",
        "/api/v1/models?sort=newest&license=LicenseRef-Ours-Alone",
        "/api/v1/collections",
        "/api/v1/collections/agent-compatible",
        "/api/v1/nodes",
        "/metrics",
    ],
)
def test_no_page_and_no_answer_gives_it_away(
    market: Market, private: Private, path: str, known: bool
) -> None:
    with market.http(private.stranger if known else "") as http:
        answer = http.get(path)
    assert answer.status_code == 200
    given = answer.text.replace(f"?q={WORD}", "").replace(f"?task={WORD}", "")
    assert private.name not in given
    assert private.cid not in given
    assert "for the zugspitzkabine only" not in given
    if "application/json" in answer.headers["Content-Type"] and "facets" in answer.json():
        counted = [facet["value"] for each in answer.json()["facets"].values() for facet in each]
        shown = [value for value in counted if f"={value}" not in path]
        assert WORD not in shown
        assert "LicenseRef-Ours-Alone" not in shown


PATHS = [
    ("GET", "/models/{name}"),
    ("GET", "/models/{name}?version=1.0.0"),
    ("GET", "/models/{name}/manage"),
    ("GET", "/api/v1/models/{name}"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0/verification"),
    ("POST", "/api/v1/models/{name}/versions/1.0.0/verification"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0/package"),
    ("GET", "/api/v1/models/{name}/package-key"),
    ("GET", "/api/v1/models/{name}/diagnostics"),
    ("GET", "/api/v1/models/{name}/nodes"),
    ("GET", "/api/v1/models/{name}/access"),
    ("GET", "/api/v1/models/{name}/access/history"),
    ("GET", "/api/v1/models/{name}/access/requests"),
    ("POST", "/api/v1/models/{name}/access/entries"),
    ("POST", "/api/v1/models/{name}/access/requests"),
    ("POST", "/api/v1/models/{name}/versions/1.0.0/deprecate"),
    ("GET", "/inference/v1/{name}"),
    ("POST", "/inference/v1/{name}"),
    ("POST", "/inference/v1/{name}@1.0.0"),
]


@pytest.mark.parametrize("known", [False, True], ids=["anonymous", "stranger"])
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_it_answers_a_stranger_as_a_name_that_nobody_took(
    market: Market, private: Private, method: str, path: str, known: bool
) -> None:
    unknown = fresh_name("secret")
    assert len(unknown) == len(private.name)

    def ask(name: str) -> tuple[int, dict[str, str], str]:
        body = TEXT if method == "POST" else None
        answer = http.request(method, path.format(name=name), json=body)
        request_id = answer.headers["X-Request-Id"]
        text = answer.text.replace(name, "NAME").replace(request_id, "ID")
        text = re.sub(r"urn:uuid:[0-9a-f-]{36}", "ID", text)
        text = re.sub(r'name="csrfmiddlewaretoken" value="\w+"', "CSRF", text)
        varying = {"x-request-id", "date", "ratelimit", "server-timing", "set-cookie"}
        headers = {key: value for key, value in answer.headers.items() if key not in varying}
        return answer.status_code, headers, text

    with market.http(private.stranger if known else "") as http:
        real, none = ask(private.name), ask(unknown)
    assert real == none
    if (method, path) != ("POST", "/api/v1/models/{name}/access/requests"):
        # A token without `manage` is told so before any name is looked up.
        managing = re.search(r"/(nodes|access|access/\w+|deprecate)$", path) is not None
        assert real[0] == (403 if known and managing else 404)


def test_its_receipt_is_for_caller_and_owner(market: Market, private: Private) -> None:
    for token, status in (("", 404), (private.stranger, 404), (private.owner, 200)):
        with market.http(token) as http:
            assert http.get(f"/api/v1/receipts/{private.receipt}").status_code == status
    with market.http() as http:
        assert http.get(f"/receipts/{private.receipt}").status_code == 404


def test_owner_and_guest_see_and_call_it_on_a_trusted_node(
    market: Market, private: Private, tmp_path: Path
) -> None:
    for token in (private.owner, private.guest):
        with market.http(token) as http:
            listed = http.get("/api/v1/models", params={"q": WORD}).json()
            answer = http.post(f"/inference/v1/{private.name}", json=TEXT)
        assert [each["name"] for each in listed["results"]] == [private.name]
        assert answer.status_code == 200, answer.text
        assert answer.json()["language"] == "de"
        assert answer.headers["Inframind-Node"] in {"node-a", "node-b"}
    trusted = market.rows(
        sql.SQL(
            "SELECT bool_and(node.trusted) FROM mesh_placement placement "
            "JOIN mesh_node node ON node.id = placement.node_id "
            "JOIN catalog_version version ON version.id = placement.version_id "
            "WHERE version.model_id = %s"
        ),
        private.name,
    )
    assert trusted == [(True,)]
    exported = {
        token: market.infra(
            "model", "export", private.name, "--output", str(tmp_path / token[-9:]), token=token
        )
        for token in (private.owner, private.guest)
    }
    assert exported[private.owner].status == 0, exported[private.owner].stderr
    # Whoever may call a model does not get its files.
    assert exported[private.guest].status != 0


@dataclass(frozen=True)
class Gate:
    """A private model whose list its owner changes, and a guest who calls."""

    market: Market
    name: str
    owner: str
    guest_wallet: str
    guest: str

    def call(self, token: str = "") -> int:
        with self.market.http(token or self.guest) as http:
            return http.post(f"/inference/v1/{self.name}", json=TEXT).status_code

    def change(self, method: str, path: str, body: Any = None) -> Any:
        with self.market.http(self.owner) as http:
            answer = http.request(method, f"/api/v1/{path}", json=body)
        assert answer.status_code < 300, answer.text
        return answer

    def allow(self, **entry: Any) -> None:
        self.change("POST", f"models/{self.name}/access/entries", {"entries": [entry]})


@pytest.fixture(scope="module")
def gate(market: Market, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    name, owner, guest = fresh_name("secret"), fresh_wallet(), fresh_wallet()
    market.fund(owner, guest)
    # As `infra login` gets it: groups are the account's, and no scoped token reaches them.
    owner_token = market.domain(
        "from datetime import timedelta\n"
        "from inframind.identity import models, services\n"
        f"wallet = models.Wallet.objects.of({owner!r})\n"
        "print(services.mint_token(wallet=wallet, name='journey', kind='login',\n"
        "    actions=models.Token.Action.values, lifetime=timedelta(hours=1))[1])\n"
    ).strip()
    (guest_token,) = market.tokens((guest, "invoke"))
    folder = market.package(
        "language-id-v1", name, tmp_path_factory.mktemp("gate"), access="{public: false}"
    )
    market.register(folder, token=owner_token)
    market.await_state(name, token=owner_token)
    return Gate(market, name, owner_token, guest, guest_token)


def test_whoever_is_taken_off_the_list_is_a_stranger_at_the_next_call(gate: Gate) -> None:
    assert (gate.call(), gate.call(gate.owner)) == (404, 200)
    gate.allow(address=gate.guest_wallet)
    assert gate.call() == 200
    gate.change("DELETE", f"models/{gate.name}/access/entries/{gate.guest_wallet}")
    assert (gate.call(), gate.call(gate.owner)) == (404, 200)


def test_so_is_who_leaves_the_group_that_let_them_in(gate: Gate) -> None:
    gate.change("POST", "groups", {"name": "partners"})
    gate.allow(group="partners")
    members = {"members": [{"address": gate.guest_wallet}]}
    gate.change("POST", "groups/partners/members", members)
    assert gate.call() == 200
    gate.change("DELETE", f"groups/partners/members/{gate.guest_wallet}")
    assert gate.call() == 404
    gate.change("POST", "groups/partners/members", members)
    assert gate.call() == 200
    gate.change("DELETE", "groups/partners")
    assert gate.call() == 404


def test_an_entry_lets_in_until_its_end(gate: Gate) -> None:
    gate.allow(address=gate.guest_wallet, expires_in="10s")
    assert gate.call() == 200
    deadline = time.monotonic() + 60
    while (status := gate.call()) == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == 404
    listed = gate.change("GET", f"models/{gate.name}/access").json()["entries"]
    assert [(each["address"].lower(), each["expired"]) for each in listed] == [
        (gate.guest_wallet.lower(), True)
    ]
    gate.change("DELETE", f"models/{gate.name}/access/entries/{gate.guest_wallet}")


def test_a_token_for_another_model_does_not_reach_it(gate: Gate) -> None:
    gate.allow(address=gate.guest_wallet)
    other = gate.market.token(gate.guest_wallet, "invoke", models=("some-other",))
    named = gate.market.token(gate.guest_wallet, "invoke", models=(gate.name,))
    assert (gate.call(named), gate.call(other)) == (200, 403)
    with gate.market.http(other) as http:
        assert http.get(f"/api/v1/models/{gate.name}").status_code == 404
        assert gate.name not in http.get("/api/v1/models").text
        unknown = http.post(f"/inference/v1/{fresh_name('secret')}", json=TEXT).status_code
    assert unknown == 403
    gate.change("DELETE", f"models/{gate.name}/access/entries/{gate.guest_wallet}")
