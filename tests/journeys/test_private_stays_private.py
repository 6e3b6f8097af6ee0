"""A private model does not exist for strangers, and serves its owner and whom the owner lets in."""

from __future__ import annotations

import json
import re
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
    name, guest = fresh_name("secret"), fresh_wallet()
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
        (fresh_wallet(), "publish", "invoke"),
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
    ("GET", "/api/v1/models/{name}"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0/verification"),
    ("POST", "/api/v1/models/{name}/versions/1.0.0/verification"),
    ("GET", "/api/v1/models/{name}/versions/1.0.0/package"),
    ("GET", "/api/v1/models/{name}/diagnostics"),
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
    assert real[0] == (
        401 if path.endswith("verification") and method == "POST" and not known else 404
    )


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
    exported = market.infra(
        "model", "export", private.name, "--output", str(tmp_path / "out"), token=private.guest
    )
    assert exported.status == 0, exported.stderr


def test_whoever_is_taken_off_the_list_is_a_stranger_at_the_next_call(
    market: Market, tmp_path: Path
) -> None:
    name, guest = fresh_name("secret"), fresh_wallet()
    owner, token = market.tokens((fresh_wallet(), "publish", "invoke"), (guest, "invoke"))
    access = f'{{public: false, auth_required: true, allow_list: ["{guest}"]}}'
    market.register(market.package("language-id-v1", name, tmp_path, access=access), token=owner)
    market.await_state(name, token=owner)

    def call(text: str) -> Any:
        with market.http(text) as http:
            return http.post(f"/inference/v1/{name}", json=TEXT)

    def allow(*wallets: str) -> None:
        market.domain(
            "from marketplace.catalog import services\n"
            "from marketplace.catalog.models import Model\n"
            f"model = Model.objects.get(pk={name!r})\n"
            "services.change_access(model=model, public=False, auth_required=True, "
            f"allow_list={json.dumps(wallets)}, reason='The project ended', "
            "changed_by=model.owner)\n"
        )

    assert call(token).status_code == 200
    allow()
    assert call(token).status_code == 404
    assert call(owner).status_code == 200
    allow(guest)
    assert call(token).status_code == 200
