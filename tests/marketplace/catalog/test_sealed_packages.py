"""Packages of private models: sealed before anything is stored, opened for those who may read."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pyrage import decrypt, x25519
from pytest_django import Settings

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from inframind.storage import sealed
from inframind.storage.errors import KeyUnreadable
from inframind.storage.local import LocalStore
from inframind.storage.packages import PackageLimits
from inframind.storage.store import get_store
from marketplace.catalog import filing, packagekeys, packages, services
from marketplace.catalog.models import AllowEntry, CodeReview, Model, PackageKey, Version
from tests.inframind.storage.kubo import KuboNode
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import (
    MANIFEST,
    PRIVATE,
    PYTHON_MANIFEST,
    STAFF,
    STRANGER,
    PlayedNode,
    bearer,
    nothing_is_there,
    onnx_model,
    onnx_package,
    python_package,
    refusal,
    stored_packages,
    tar_of,
)

MARKER = b"The marker of the plaintext, which nothing stored may hold."
FILES = {"README.md": MARKER, "notes/telling-name.txt": MARKER * 1000}
TELLING = (MARKER, b"telling-name", b"model.yaml", b"echo-text", b"README")
FRIENDS = (
    f"access:\n  public: false\n  allow_list:\n    - '{STRANGER}'  # a friend\n    - '{STAFF}'\n"
)


def content_cid_of(stream: io.BytesIO, folder: Path) -> str:
    store = LocalStore(folder / "reference", durable=False)
    return store.add_package(stream, limits=PackageLimits()).cid


def telling(root: Path) -> list[bytes]:
    """What of the plaintext lies on disk, in a name or in bytes."""
    found = [str(path).encode() + path.read_bytes() for path in root.rglob("*") if path.is_file()]
    return [word for word in TELLING if any(word in each for each in found)]


def told(answer: Any) -> dict[str, Any]:
    """A problem without the name that was asked for and the number of its request."""
    text = answer.content.decode().replace("echo-texu", "echo-text")
    return {key: value for key, value in json.loads(text).items() if key != "instance"}


def make_public(version: Version, by: Wallet, *, public: bool = True) -> None:
    services.change_access(
        model=version.model,
        public=public,
        auth_required=not public,
        restricted=not public,
        reason="test",
        changed_by=by,
    )
    version.model.refresh_from_db()


def test_a_private_package_is_stored_sealed(owner: Wallet, store_dir: Path, tmp_path: Path) -> None:
    done = services.register(publisher=owner, stream=onnx_package(PRIVATE, files=FILES))
    version = done.version
    expected = content_cid_of(onnx_package(PRIVATE, files=FILES), tmp_path)
    assert (version.content_cid, version.cid != expected) == (expected, True)
    assert stored_packages(store_dir) == [version.cid]
    assert [file.path for file in get_store().files(version.cid)] == [sealed.FILE_NAME]
    assert telling(store_dir) == []
    assert [each["path"] for each in version.files] == [
        "README.md", "model.onnx", "model.yaml", "notes/telling-name.txt",
    ]  # fmt: skip
    assert version.readme == MARKER.decode()
    assert any("stored sealed" in notice for notice in done.notices)
    with packages.opened(version) as opened:
        assert opened.read_bytes("README.md", limit_bytes=1000) == MARKER
        assert b"".join(opened.open("notes/telling-name.txt")) == MARKER * 1000
    assert telling(store_dir) == []


def test_a_private_package_on_ipfs_shows_nothing(
    owner: Wallet, settings: Settings, store_dir: Path
) -> None:
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        stream = onnx_package(PRIVATE, files=FILES)
        version = services.register(publisher=owner, stream=stream).version
        assert kubo.pins == {version.cid}
        seen = [*kubo.blocks.values(), *(cid.encode() for cid in kubo.blocks)]
        assert [word for word in TELLING if any(word in each for each in seen)] == []
        assert version.content_cid not in kubo.blocks
        assert {each["cid"] for each in version.files} & set(kubo.blocks) == set()
        with packages.opened(version) as opened:
            assert opened.read_bytes("README.md", limit_bytes=1000) == MARKER
    assert telling(store_dir) == []


@pytest.mark.parametrize("spelling", ["./model.yaml", "././model.yaml"])
def test_the_manifest_is_looked_for_as_the_store_reads_paths(
    owner: Wallet, settings: Settings, spelling: str
) -> None:
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        stream = tar_of({spelling: PRIVATE.encode(), "model.onnx": onnx_model()})
        version = services.register(publisher=owner, stream=stream).version
        assert version.package_key is not None
        assert [word for word in TELLING if any(word in b for b in kubo.blocks.values())] == []


def test_a_sealed_package_is_verified_like_any_other(
    activated: Publish, node: PlayedNode, store_dir: Path
) -> None:
    version = activated(PRIVATE)
    assert (version.state, version.state_reason) == ("active", "")
    check = version.verifications.get().checks.get(kind="hash")
    assert (check.cid, check.cases_passed, check.cases_total) == (version.cid, 2, 2)
    assert check.detail.endswith(f"it opens to {version.content_cid}.")
    assert telling(store_dir) == []


def test_later_versions_use_the_key_of_the_model(publish: Publish) -> None:
    first = publish(PRIVATE)
    second = publish(MANIFEST.replace("1.0", "1.1"))
    assert (second.package_key, PackageKey.objects.count()) == (first.package_key, 1)
    other = publish(PRIVATE.replace("echo-text", "second-model"))
    assert other.package_key != first.package_key


def test_the_same_content_is_the_same_version_though_it_would_seal_differently(
    publish: Publish, owner: Wallet, store_dir: Path
) -> None:
    first = publish(PRIVATE)
    zipped = io.BytesIO(gzip.compress(onnx_package(PRIVATE).read()))
    again = services.register(publisher=owner, stream=zipped, expected_cid=first.content_cid)
    assert (again.created, again.version.pk, again.version.cid) == (False, first.pk, first.cid)
    assert stored_packages(store_dir) == [first.cid]
    problem = refusal(owner, onnx_package(PRIVATE, files=FILES))
    assert (problem.code, problem.extra["published_cid"]) == ("version-taken", first.content_cid)
    assert stored_packages(store_dir) == [first.cid]
    problem = refusal(owner, onnx_package(PRIVATE), expected_cid=first.cid)
    assert (problem.code, problem.extra["actual"]) == ("cid-mismatch", first.content_cid)
    assert stored_packages(store_dir) == [first.cid]


def test_publishing_again_repairs_a_damaged_sealed_package_to_the_byte(
    publish: Publish, owner: Wallet, store_dir: Path, node: PlayedNode
) -> None:
    version = publish(PRIVATE, by=owner)
    before = {path: path.read_bytes() for path in (store_dir / "blocks").glob("*/*/*")}
    for path, data in before.items():
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    run = services.verify_next()
    assert run is not None
    assert (run.state, run.reason_code) == ("failed", "hash-failed")
    assert "repairs the stored copy" in run.reason
    for path in before:
        path.unlink()
    again = services.register(publisher=owner, stream=onnx_package(PRIVATE))
    assert (again.created, again.version.pk) == (False, version.pk)
    after = {path: path.read_bytes() for path in (store_dir / "blocks").glob("*/*/*")}
    assert after == before
    services.request_verification(version=version)
    run = services.verify_next()
    assert (run and run.state) == "passed"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "manifest": ({"manifest": PRIVATE.replace("license: MIT\n", "")}, "manifest-invalid"),
    "name": ({"manifest": PRIVATE.replace("echo-text", "admin")}, "name-unavailable"),
    "content": ({"files": {**FILES, "run.so": b"x"}}, "package-rejected"),
    "replaces": ({"manifest": PRIVATE + "replaces: other-one@1.0\n"}, "manifest-invalid"),
    "cid": ({"expected_cid": "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"},
            "cid-mismatch"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_leaves_neither_plaintext_nor_ciphertext(
    owner: Wallet, store_dir: Path, case: str
) -> None:
    given, code = REFUSED[case]
    given = dict(given)
    stream = onnx_package(given.pop("manifest", PRIVATE), files=given.pop("files", FILES))
    problem = refusal(owner, stream, **given)
    assert problem.code == code
    assert nothing_is_there(store_dir)
    assert (telling(store_dir), PackageKey.objects.exists()) == ([], False)


def test_a_quota_refusal_neither(owner: Wallet, store_dir: Path, settings: Settings) -> None:
    settings.MODELS_PER_WALLET = 0
    with KuboNode() as kubo:
        settings.IPFS_API = kubo.api
        assert refusal(owner, onnx_package(PRIVATE, files=FILES)).code == "quota-exceeded"
        assert (kubo.blocks, kubo.pins) == ({}, set())
    assert telling(store_dir) == []


def test_a_loss_after_sealing_takes_the_sealed_package_along(
    owner: Wallet, store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marketplace.catalog import registration

    def lost(version: Version) -> None:
        assert stored_packages(store_dir) == [version.cid]
        raise KeyboardInterrupt

    monkeypatch.setattr(registration, "_queue", lost)
    with pytest.raises(KeyboardInterrupt):
        services.register(publisher=owner, stream=onnx_package(PRIVATE))
    assert nothing_is_there(store_dir)
    assert not PackageKey.objects.exists()


def test_what_a_killed_process_left_is_swept(
    publish: Publish, store_dir: Path, settings: Settings
) -> None:
    version = publish(PRIVATE)
    lost = store_dir / "opened" / "lost" / "blocks"
    lost.mkdir(parents=True)
    (lost / "plain").write_bytes(MARKER)
    orphan, _ = sealed.add_sealed(
        get_store(), iter([MARKER]), recipient=sealed.new_key_pair().recipient
    )
    for cid in (version.cid, orphan.cid):
        os.utime(store_dir / "packages" / cid, (1, 1))
    assert services.sweep_packages() == (1, 0)
    assert (telling(store_dir), list((store_dir / "opened").iterdir())) == ([], [])
    assert stored_packages(store_dir) == [version.cid]


def test_a_model_that_becomes_private_on_the_way_refuses_the_plain_package(
    publish: Publish, owner: Wallet, store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish()
    directly = filing.directly

    def overtaken(*args: Any) -> Any:
        make_public(first, owner, public=False)
        return directly(*args)

    monkeypatch.setattr(filing, "directly", overtaken)
    problem = refusal(owner, onnx_package(MANIFEST.replace("1.0", "1.1"), files=FILES))
    assert (problem.code, problem.retry_safe) == ("access-changed", True)
    assert (stored_packages(store_dir), telling(store_dir)[0:1]) == ([first.cid], [b"model.yaml"])
    assert MARKER not in b"".join(p.read_bytes() for p in (store_dir / "blocks").glob("*/*/*"))
    monkeypatch.undo()
    second = publish(MANIFEST.replace("1.0", "1.1"), by=owner)
    assert second.package_key is not None


def test_a_model_that_becomes_public_discloses_its_key_and_later_gets_another(
    activated: Publish, owner: Wallet, client: Client, stranger: Wallet
) -> None:
    version = activated(PRIVATE)
    address = "/api/v1/models/echo-text/package-key"
    unknown = client.get("/api/v1/models/echo-texu/package-key")
    hidden = client.get(address)
    assert (hidden.status_code, unknown.status_code) == (404, 404)
    assert told(hidden) == told(unknown)
    assert client.get(address, headers=bearer(owner)).status_code == 404

    make_public(version, owner)
    page = client.get("/models/echo-text").content.decode()
    assert ("sealed" in page, version.content_cid in page, address in page) == (True, True, True)
    assert version.package_key is not None
    (key,) = client.get(address).json()["keys"]
    assert (key["recipient"], key["versions"]) == (version.package_key.recipient, ["1.0.0"])
    stored = b"".join(get_store().open(version.cid, sealed.FILE_NAME))
    plain = decrypt(stored, [x25519.Identity.from_str(key["identity"])])
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == ["model.onnx", "model.yaml"]
    plain_version = activated(MANIFEST.replace("1.0", "1.1"))
    assert plain_version.package_key is None
    again = services.register(publisher=owner, stream=onnx_package(PRIVATE))
    assert (again.created, again.version.cid) == (False, version.cid)

    make_public(version, owner, public=False)
    assert client.get(address).status_code == 404
    third = activated(MANIFEST.replace("1.0", "1.2"))
    assert third.package_key not in (None, version.package_key)
    make_public(version, owner)
    assert len(client.get(address).json()["keys"]) == 2


def test_keys_are_wrapped_and_another_setting_does_not_open_them(
    publish: Publish, settings: Settings, client: Client, owner: Wallet
) -> None:
    version = publish(PRIVATE)
    key = PackageKey.objects.get()
    secret = packagekeys.secret_of(key)
    assert secret.startswith("AGE-SECRET-KEY-1")
    assert secret.encode() not in bytes(key.secret_wrapped)
    settings.PACKAGE_KEY = "another key altogether"
    with pytest.raises(KeyUnreadable, match="PACKAGE_KEY"):
        packagekeys.secret_of(key)
    answer = client.get(
        f"/api/v1/models/echo-text/versions/{version.number}/package", headers=bearer(owner)
    )
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/store-unavailable")


def test_the_list_in_a_manifest_becomes_policy_and_no_part_of_the_package(
    owner: Wallet, store_dir: Path, tmp_path: Path
) -> None:
    bare = MANIFEST + "access:\n  public: false\n"
    expected = content_cid_of(onnx_package(bare), tmp_path)
    done = services.register(
        publisher=owner, stream=onnx_package(MANIFEST + FRIENDS), expected_cid=expected
    )
    assert done.version.content_cid == expected
    assert "allow_list" not in str(done.version.manifest)
    assert sorted(AllowEntry.objects.values_list("address", flat=True)) == [STRANGER, STAFF]
    assert any("no part of the package" in notice for notice in done.notices)
    with packages.opened(done.version) as opened:
        assert opened.read_bytes("model.yaml", limit_bytes=10_000) == bare.encode()
    assert b"a friend" not in b"".join(
        path.read_bytes() for path in store_dir.rglob("*") if path.is_file()
    )
    later = services.register(
        publisher=owner, stream=onnx_package((MANIFEST + FRIENDS).replace("1.0", "1.1"))
    )
    assert any("allow_list was not applied" in notice for notice in later.notices)


def test_a_public_model_may_be_listed_for_all_and_called_by_some(owner: Wallet) -> None:
    manifest = MANIFEST + f"access: {{allow_list: ['{STRANGER}']}}\n"
    version = services.register(publisher=owner, stream=onnx_package(manifest)).version
    model = Model.objects.get()
    assert (model.public, model.auth_required, model.restricted) == (True, True, True)
    assert (version.package_key, version.cid) == (None, version.content_cid)
    assert version.manifest["access"] == {}


def test_a_list_that_cannot_be_cut_out_is_refused_with_its_place(
    owner: Wallet, store_dir: Path
) -> None:
    manifest = MANIFEST + f"access:\n  ? allow_list\n  : ['{STRANGER}']\n  public: false\n"
    problem = refusal(owner, onnx_package(manifest))
    assert (problem.code, problem.violations[0].pointer) == (
        "manifest-invalid",
        "/access/allow_list",
    )
    assert "field allow_list" in problem.remedy
    assert nothing_is_there(store_dir)


def upload(client: Client, headers: dict[str, str], stream: io.BytesIO, **fields: str) -> Any:
    package = SimpleUploadedFile("package.tar", stream.getvalue(), "application/x-tar")
    return client.post("/api/v1/models", {**fields, "package": package}, headers=headers)


@pytest.mark.parametrize(
    "text",
    [
        f"{STRANGER},{STAFF}",
        f"{STRANGER}\n{STAFF}\n",
        f'["{STRANGER}", "{STAFF}"]',
        f"{STRANGER} {STRANGER} {STAFF}",
    ],
)
def test_the_list_may_come_beside_the_package(client: Client, owner: Wallet, text: str) -> None:
    answer = upload(client, bearer(owner), onnx_package(PRIVATE), allow_list=text)
    body = answer.json()
    assert (answer.status_code, body["sealed"], body["cid"] != body["content_cid"]) == (
        201,
        True,
        True,
    )
    assert sorted(AllowEntry.objects.values_list("address", flat=True)) == [STRANGER, STAFF]


@pytest.mark.parametrize(
    "text", ["nonsense", "[", "[[]]", '{"a": 1}', f"{STRANGER};{STAFF}", "0x" + "1" * 39]
)
def test_a_list_that_is_none_is_refused_whole(client: Client, owner: Wallet, text: str) -> None:
    answer = upload(client, bearer(owner), onnx_package(PRIVATE), allow_list=text)
    assert (answer.status_code, Model.objects.exists()) == (422, False)


def test_a_package_is_read_by_its_owner_alone(
    activated: Publish, client: Client, owner: Wallet, stranger: Wallet, staff: Wallet
) -> None:
    version = activated(PRIVATE)
    AllowEntry.objects.create(model=version.model, address=STRANGER)
    guest, nobody = stranger, Wallet.objects.of("0x" + "4" * 40)
    address = "/api/v1/models/echo-text/versions/1.0.0/package"
    unknown = "/api/v1/models/echo-texu/versions/1.0.0/package"

    def status(wallet: Wallet | None, **headers: str) -> int:
        sent = {**headers, **(bearer(wallet) if wallet else {})}
        return client.get(address, headers=sent).status_code

    assert [status(each) for each in (owner, staff, guest, nobody, None)] == [
        200, 404, 403, 404, 404,
    ]  # fmt: skip
    etag = {"If-None-Match": f'"{version.content_cid}"'}
    assert [status(each, **etag) for each in (owner, staff, guest, nobody, None)] == [
        304, 404, 403, 404, 404,
    ]  # fmt: skip
    for wallet in (nobody, None):
        headers = bearer(wallet) if wallet else {}
        one, other = client.get(address, headers=headers), client.get(unknown, headers=headers)
        assert told(one) == told(other)
    assert client.get(address, headers=bearer(owner, "invoke")).status_code == 403


def test_the_download_is_the_plain_package(
    activated: Publish, client: Client, owner: Wallet, store_dir: Path
) -> None:
    version = activated(PRIVATE)
    answer = client.get("/api/v1/models/echo-text/versions/1.0.0/package", headers=bearer(owner))
    assert (answer["Inframind-Cid"], answer["Inframind-Stored-Cid"], answer["ETag"]) == (
        version.content_cid,
        version.cid,
        f'"{version.content_cid}"',
    )
    body = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["model.onnx", "model.yaml"]
    answer.close()
    assert (telling(store_dir), list((store_dir / "opened").iterdir())) == ([], [])


def test_a_download_that_is_given_up_leaves_nothing_open(
    activated: Publish, client: Client, owner: Wallet, store_dir: Path
) -> None:
    activated(PRIVATE)
    answer = client.get("/api/v1/models/echo-text/versions/1.0.0/package", headers=bearer(owner))
    answer.close()
    assert list((store_dir / "opened").iterdir()) == []


def test_a_review_of_code_holds_for_its_content_however_it_is_stored(
    owner: Wallet, staff: Wallet, publish: Publish
) -> None:
    code = b"class Model: ...\n"
    nameless = PYTHON_MANIFEST.replace("name: echo-text\nversion: 1.0\n", "")

    def register(name: str) -> Version:
        stream = python_package(nameless + "access: {public: false}\n", code)
        return services.register(publisher=owner, stream=stream, name=name, version="1.0").version

    first, second = register("first-one"), register("second-one")
    assert (first.cid != second.cid, first.content_cid) == (True, second.content_cid)
    services.review_code(version=first, reviewer=staff, verdict="approved")
    assert CodeReview.objects.get().cid == first.content_cid
    assert [each.verifications.count() for each in (first, second)] == [1, 1]
    assert register("third-one").verifications.count() == 1


def test_no_refusal_tells_apart_a_private_and_an_unknown_name(
    publish: Publish, stranger: Wallet
) -> None:
    publish(PRIVATE)
    with pytest.raises(Problem) as caught:
        services.register(publisher=stranger, stream=onnx_package(MANIFEST.replace("1.0", "2.0")))
    assert caught.value.code == "name-unavailable"
