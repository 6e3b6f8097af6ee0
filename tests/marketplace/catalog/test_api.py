"""REST of the catalog, over HTTP."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from inframind.identity.models import Wallet
from marketplace.catalog import services
from marketplace.catalog.models import Model, Version
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, PlayedNode, bearer, onnx_package, tar_of

MODELS = "/api/v1/models"
VERSION = f"{MODELS}/echo-text/versions/1.0.0"


def upload(client: Client, headers: dict[str, str], stream: io.BytesIO, **fields: str) -> Any:
    package = SimpleUploadedFile("package.tar", stream.getvalue(), "application/x-tar")
    return client.post(MODELS, {**fields, "package": package}, headers=headers)


def test_an_upload_is_registered_once(client: Client, owner: Wallet) -> None:
    headers = bearer(owner)
    first = upload(client, headers, onnx_package())
    assert (first.status_code, first.json()["state"], first.json()["notices"]) == (
        201,
        "pending",
        [],
    )
    again = upload(client, headers, onnx_package())
    assert (again.status_code, again.json()["cid"]) == (200, first.json()["cid"])
    assert first.json()["fee"] == {"base_units": "0", "text": "0 IFM"}
    assert first.json()["reference"] == f"ipfs://{first.json()['cid']}"


def test_name_and_version_may_be_sent_beside_the_package(client: Client, owner: Wallet) -> None:
    bare = MANIFEST.replace("name: echo-text\nversion: 1.0\n", "")
    answer = upload(client, bearer(owner), onnx_package(bare), name="echo-text", version="1.0")
    assert (answer.status_code, answer.json()["version"]) == (201, "1.0.0")


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer nonsense"}, 401), ({"Authorization": "Basic x"}, 401)],
)
def test_publishing_needs_a_good_token(
    client: Client, db: None, headers: dict[str, str], status: int
) -> None:
    answer = upload(client, headers, onnx_package())
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert "Bearer" in answer["WWW-Authenticate"]


def test_a_token_publishes_what_it_may(client: Client, owner: Wallet) -> None:
    assert upload(client, bearer(owner, "invoke"), onnx_package()).status_code == 403
    narrow = bearer(owner, only=("other-one",))
    assert upload(client, narrow, onnx_package()).status_code == 403
    assert not Model.objects.exists()


def test_a_refusal_is_a_problem_with_places(client: Client, owner: Wallet) -> None:
    answer = upload(client, bearer(owner), onnx_package(MANIFEST.replace("license", "licence")))
    body = answer.json()
    assert (answer.status_code, body["type"]) == (422, "/problems/manifest-invalid")
    assert body["violations"][0] == {
        "pointer": "/licence", "detail": "The field 'licence' is unknown.",
        "remedy": "Did you mean 'license'?", "line": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [{}, [], {"reference": "ar://x"}, {"reference": 3, "cid": []}, {"package": "x"}],
)
def test_a_request_without_a_package_is_refused(
    client: Client, owner: Wallet, document: Any
) -> None:
    answer = client.post(MODELS, document, "application/json", headers=bearer(owner))
    assert (answer.status_code, Version.objects.count()) == (422, 0)


def test_a_model_is_read_with_schemas_price_and_evidence(
    client: Client, activated: Publish
) -> None:
    version = activated(MANIFEST + "pricing: {per_request_fee: 0.25 IFM}\n")
    body = client.get(f"{MODELS}/echo-text").json()
    assert body["fee"] == {"base_units": "250000000000000000", "text": "0.25 IFM"}
    assert [badge["kind"] for badge in body["badges"]] == [
        "agent-compatible", "hash-verified", "schema-validated",
    ]  # fmt: skip
    assert [(line["version"], line["state"]) for line in body["versions"]] == [("1.0.0", "active")]
    assert body["input_schema"] == version.manifest["input_schema"]
    assert client.get(VERSION).json()["cid"] == version.cid
    assert client.get(f"{MODELS}/echo-text/versions/1.0").json()["version"] == "1.0.0"
    run = client.get(f"{VERSION}/verification").json()
    assert (run["state"], run["version_state"]) == ("passed", "active")
    assert {check["kind"]: check["passed"] for check in run["checks"]}["generated"]


def test_the_package_comes_back_as_it_was_published(client: Client, activated: Publish) -> None:
    version = activated()
    answer = client.get(f"{VERSION}/package", headers={"Accept": "application/x-tar"})
    assert (answer.status_code, answer["Inframind-Cid"]) == (200, version.cid)
    data = b"".join(answer)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]
    assert files["model.yaml"] == MANIFEST.encode()
    again = services.register(publisher=version.published_by, stream=tar_of(files))
    assert (again.created, again.version.cid) == (False, version.cid)
    cached = client.get(f"{VERSION}/package", headers={"If-None-Match": answer["ETag"]})
    assert cached.status_code == 304


def test_private_and_unknown_read_alike(client: Client, activated: Publish, owner: Wallet) -> None:
    activated(MANIFEST + "access: {public: false}\n")
    paths = ["", "/versions/1.0.0", "/versions/1.0.0/verification", "/versions/1.0.0/package"]
    for path in paths:
        hidden = client.get(f"{MODELS}/echo-text{path}")
        unknown = client.get(f"{MODELS}/no-such-xx{path}")
        assert hidden.status_code == unknown.status_code == 404
        told = hidden.json() | {"instance": ""}
        assert told["detail"] == unknown.json()["detail"].replace("no-such-xx", "echo-text")
        assert client.get(f"{MODELS}/echo-text{path}", headers=bearer(owner)).status_code == 200
    assert client.get(MODELS).json()["total"] == 0


def test_the_list_is_searched_and_paged(
    client: Client, activated: Publish, node: PlayedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alpha-one", "beta-two", "gamma-three"):
        activated(MANIFEST.replace("echo-text", name))
    monkeypatch.setattr("marketplace.catalog.search.PAGE_SIZE", 2)
    first = client.get(MODELS, {"task": "text-generation"}).json()
    assert [each["name"] for each in first["results"]] == ["alpha-one", "beta-two"]
    second = client.get(first["next"]).json()
    assert ([each["name"] for each in second["results"]], second["next"]) == (["gamma-three"], None)
    assert client.get(MODELS, {"q": "beta"}).json()["total"] == 1
    for bad in ({"cursor": "!"}, {"sort": "magic"}, {"price": "much"}):
        assert client.get(MODELS, bad).status_code == 422


def test_only_the_owner_asks_for_another_verification(
    client: Client, activated: Publish, owner: Wallet, stranger: Wallet
) -> None:
    activated()
    path = f"{VERSION}/verification"
    assert client.post(path).status_code == 401
    assert client.post(path, headers=bearer(stranger)).status_code == 403
    answer = client.post(path, headers=bearer(owner))
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")


def test_the_manifest_s_schema_is_public(client: Client, db: None) -> None:
    answer = client.get("/api/v1/manifest.schema.json")
    assert answer.status_code == 200
    assert answer.json()["title"] == "InfraMind model manifest (model.yaml)"
