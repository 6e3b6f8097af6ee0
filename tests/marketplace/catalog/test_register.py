"""Registering: what it makes, what it refuses, and that a refusal leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_django import Settings

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.storage.store import get_store
from marketplace.catalog import registration, services
from marketplace.catalog.models import Model, Verification, Version
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import (
    MANIFEST,
    OWNER,
    PRIVATE,
    PYTHON_MANIFEST,
    nothing_is_there,
    onnx_model,
    onnx_package,
    onnx_with_external,
    python_package,
    refusal,
    stored_packages,
    tar_of,
)


def test_registering_makes_the_rows_and_keeps_the_package(owner: Wallet, store_dir: Path) -> None:
    manifest = MANIFEST + "pricing: {per_request_fee: 0.25 IFM}\nexpires_at: 1900000000\n"
    done = services.register(
        publisher=owner, stream=onnx_package(manifest, files={"README.md": b"# Echo"})
    )
    version = done.version
    assert (done.created, done.notices, str(version)) == (True, (), "echo-text@1.0.0")
    assert (version.state, version.readme, version.license) == ("pending", "# Echo", "MIT")
    assert [file["path"] for file in version.files] == ["README.md", "model.onnx", "model.yaml"]
    assert version.manifest["version"] == "1.0.0"
    terms = version.terms_history.get()
    assert (int(terms.fee_base_units), terms.payout_address) == (25 * 10**16, OWNER)
    assert terms.expires_at == version.expires_at == datetime(2030, 3, 17, 17, 46, 40, tzinfo=UTC)
    policy = version.model.access_history.get()
    assert (policy.public, policy.reason, policy.changed_by) == (True, "manifest", owner)
    assert version.verifications.get().state == "queued"
    assert stored_packages(store_dir) == [version.cid]


def test_the_order_of_properties_survives_the_database(owner: Wallet, publish: Publish) -> None:
    schema = "{zebra: {type: string}, a: {type: string}, text: {type: string, maxLength: 200}}"
    version = publish(MANIFEST.replace("{text: {type: string, maxLength: 200}}", schema))
    version.refresh_from_db()
    assert list(version.manifest["input_schema"]["properties"]) == ["zebra", "a", "text"]


def test_the_same_content_twice_is_one_version(owner: Wallet, publish: Publish) -> None:
    first = publish()
    again = services.register(
        publisher=owner, stream=io.BytesIO(gzip.compress(onnx_package().read()))
    )
    assert (again.created, again.version.pk, again.version.cid) == (False, first.pk, first.cid)
    assert Verification.objects.count() == 1


def test_a_number_is_taken_once(owner: Wallet, publish: Publish, store_dir: Path) -> None:
    first = publish()
    problem = refusal(owner, onnx_package(files={"README.md": b"changed"}))
    assert (problem.code, problem.status) == ("version-taken", 409)
    assert stored_packages(store_dir) == [first.cid]
    assert get_store().read_bytes(first.cid, "model.yaml", limit_bytes=10_000) == MANIFEST.encode()


def test_a_name_belongs_to_its_first_registrant(
    publish: Publish, stranger: Wallet, store_dir: Path
) -> None:
    first = publish()
    problem = refusal(stranger, onnx_package(MANIFEST.replace("1.0", "2.0")))
    assert (problem.code, problem.status) == ("name-unavailable", 409)
    assert stored_packages(store_dir) == [first.cid]


@pytest.mark.parametrize("name", ["echo-text", "ech0-text", "echotext", "ec-ho-text"])
def test_a_look_alike_is_refused_like_the_name_itself(
    publish: Publish, stranger: Wallet, name: str
) -> None:
    publish(PRIVATE)
    problem = refusal(
        stranger, onnx_package(MANIFEST.replace("echo-text", name).replace("1.0", "3"))
    )
    assert problem.code == "name-unavailable"
    assert problem.detail.replace(name, "…") == (
        "The name '…' is not available: it is taken or reserved, or reads like one that is."
    )


@pytest.mark.parametrize("name", ["admin", "api", "featured", "adm1n"])
def test_a_reserved_name_is_refused(owner: Wallet, name: str, store_dir: Path) -> None:
    problem = refusal(owner, onnx_package(MANIFEST.replace("echo-text", name)))
    assert (problem.code, problem.status) == ("name-unavailable", 409)
    assert nothing_is_there(store_dir)


def test_a_wallet_has_a_quota_of_names_and_of_versions(
    owner: Wallet, publish: Publish, settings: Settings
) -> None:
    publish()
    settings.MODELS_PER_WALLET = 1
    problem = refusal(owner, onnx_package(MANIFEST.replace("echo-text", "other-one")))
    assert (problem.code, problem.status) == ("quota-exceeded", 429)
    settings.MODELS_PER_WALLET, settings.VERSIONS_PER_DAY = 9, 1
    problem = refusal(owner, onnx_package(MANIFEST.replace("1.0", "1.1")))
    assert (problem.code, problem.status) == ("quota-exceeded", 429)


def test_name_and_number_may_come_from_the_request(owner: Wallet) -> None:
    bare = MANIFEST.replace("name: echo-text\nversion: 1.0\n", "")
    done = services.register(
        publisher=owner, stream=onnx_package(bare), name="echo-text", version="1.0"
    )
    assert str(done.version) == "echo-text@1.0.0"
    assert done.version.manifest["name"] == "echo-text"


@pytest.mark.parametrize(
    ("manifest", "kwargs", "pointer"),
    [
        (MANIFEST, {"name": "other-one"}, "/name"),
        (MANIFEST, {"version": "1.0.1"}, "/version"),
        (MANIFEST.replace("name: echo-text\n", ""), {}, "/name"),
        (MANIFEST.replace("version: 1.0\n", ""), {"version": "x"}, "/version"),
    ],
)
def test_a_request_that_contradicts_the_manifest_is_refused(
    owner: Wallet, store_dir: Path, manifest: str, kwargs: dict[str, str], pointer: str
) -> None:
    problem = refusal(owner, onnx_package(manifest), **kwargs)
    assert (problem.code, problem.violations[0].pointer) == ("manifest-invalid", pointer)
    assert nothing_is_there(store_dir)


def test_a_token_for_other_models_may_not_register_this_one(owner: Wallet, store_dir: Path) -> None:
    caller = Caller(OWNER, actions=frozenset({"publish"}), names=frozenset({"other-one"}))
    problem = refusal(owner, onnx_package(), caller=caller)
    assert (problem.status, nothing_is_there(store_dir)) == (403, True)


def _member(name: str, kind: bytes, link: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return stream.getvalue()


def _twice() -> bytes:
    one = tar_of({"model.yaml": b"a"}).getvalue()[:1024]
    return one + tar_of({"model.yaml": b"b"}).getvalue()


BAD_ARCHIVES: dict[str, bytes] = {
    "path_escape": tar_of({"../evil": b"x"}).getvalue(),
    "absolute_path": tar_of({"/etc/evil": b"x"}).getvalue(),
    "link": _member("a", tarfile.SYMTYPE, "/etc/passwd"),
    "device": _member("a", tarfile.CHRTYPE),
    "duplicate_member": _twice(),
    "truncated": onnx_package().getvalue()[:900],
    "not_an_archive": b"hello" * 300,
    "no_manifest": tar_of({"a/model.yaml": b"x"}).getvalue(),
}


@pytest.mark.parametrize("rule", sorted(BAD_ARCHIVES))
def test_a_bad_archive_is_refused_and_gone(owner: Wallet, store_dir: Path, rule: str) -> None:
    problem = refusal(owner, io.BytesIO(BAD_ARCHIVES[rule]))
    assert (problem.code, problem.extra["rule"]) == ("package-rejected", rule)
    assert problem.remedy
    assert nothing_is_there(store_dir)


def test_a_bomb_is_stopped_at_the_limit(owner: Wallet, store_dir: Path, settings: Settings) -> None:
    settings.PACKAGE_MAX_BYTES = 1 << 20
    settings.PACKAGE_MAX_FILES = 4
    bomb = gzip.compress(tar_of({"zeros": bytes(64 << 20)}).getvalue())
    started = time.monotonic()
    problem = refusal(owner, io.BytesIO(bomb))
    assert (problem.status, problem.extra["rule"]) == (413, "too_large")
    assert time.monotonic() - started < 2
    assert nothing_is_there(store_dir)


@pytest.mark.parametrize(
    ("rule", "files"),
    [
        ("pickle", {"weights.pkl": b"x"}),
        (
            "pickle",
            {"weights.bin": b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94(K\x01K\x02us."},
        ),
        ("pickle", {"weights.bin": b"cos\nsystem\n(S'true'\ntR."}),
        ("machine_code", {"lib/x.so": b"x"}),
        ("machine_code", {"data.bin": b"\x7fELF\x02\x01\x01"}),
        ("server_config", {"sub/config.pbtxt": b"x"}),
        ("code_in_onnx", {"run.py": b"print()"}),
        ("not_onnx", {"model.onnx": b"not protobuf at all"}),
        ("no_entrypoint", {"model.onnx": b""}),
        ("external_data_escapes", {"model.onnx": onnx_with_external("../../etc/passwd")}),
        ("external_data_escapes", {"model.onnx": onnx_with_external("/etc/passwd")}),
        ("external_data_missing", {"model.onnx": onnx_with_external("weights.bin")}),
        ("tensor_names", {"model.onnx": onnx_model(inputs=("other",))}),
        ("tensor_names", {"model.onnx": onnx_model(inputs=("text", "mask"))}),
    ],
)
def test_what_could_run_or_reach_out_is_refused(
    owner: Wallet, store_dir: Path, rule: str, files: dict[str, bytes]
) -> None:
    content = {"model.yaml": MANIFEST.encode(), "model.onnx": onnx_model(), **files}
    problem = refusal(owner, tar_of(content))
    assert (problem.code, problem.extra["rule"]) == ("package-rejected", rule)
    assert nothing_is_there(store_dir)


def test_external_data_inside_the_package_are_taken(owner: Wallet) -> None:
    content = {"model.onnx": onnx_with_external("weights.bin"), "weights.bin": bytes(8)}
    done = services.register(publisher=owner, stream=onnx_package(files=content))
    assert done.created


@pytest.mark.parametrize(
    "manifest",
    [
        "a: &x [*x]\n",
        MANIFEST + "name: again\n",
        MANIFEST + "surprise: 1\n",
        MANIFEST.replace("maxLength: 200", "$ref: 'http://127.0.0.1:9/x'"),
        MANIFEST.replace("maxLength: 200", "not: " + "{not: " * 40 + "{}" + "}" * 40),
        MANIFEST + "#" * (10 << 20),
    ],
)
def test_a_bad_manifest_is_refused_and_gone(owner: Wallet, store_dir: Path, manifest: str) -> None:
    problem = refusal(owner, onnx_package(manifest))
    assert (problem.code, problem.status) == ("manifest-invalid", 422)
    assert nothing_is_there(store_dir)


def test_content_must_hash_to_the_declared_cid(owner: Wallet, store_dir: Path) -> None:
    other = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
    problem = refusal(owner, onnx_package(), expected_cid=other)
    assert (problem.code, problem.extra["expected"]) == ("cid-mismatch", other)
    assert nothing_is_there(store_dir)


def test_a_failure_after_storing_leaves_nothing(
    owner: Wallet, store_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(version: Version) -> None:
        raise RuntimeError("the process fails between two rows")

    monkeypatch.setattr(registration, "_queue", broken)
    with pytest.raises(RuntimeError):
        services.register(publisher=owner, stream=onnx_package())
    assert nothing_is_there(store_dir)


def test_a_refusal_keeps_what_another_version_refers_to(
    publish: Publish, stranger: Wallet, store_dir: Path
) -> None:
    first = publish()
    assert refusal(stranger, onnx_package()).code == "name-unavailable"
    assert stored_packages(store_dir) == [first.cid]


def test_publisher_code_waits_for_its_review(owner: Wallet) -> None:
    version = services.register(publisher=owner, stream=python_package()).version
    assert f"Waiting for a code review of {version.cid}" in version.state_reason
    assert not Verification.objects.exists()


def test_access_of_a_later_manifest_changes_nothing_and_is_noticed(
    owner: Wallet, publish: Publish
) -> None:
    publish()
    done = services.register(publisher=owner, stream=onnx_package(PRIVATE.replace("1.0", "2.0")))
    assert Model.objects.get().public
    assert "was not applied" in done.notices[0]


def test_a_past_expiry_and_a_misspelt_task_are_noticed(owner: Wallet) -> None:
    manifest = MANIFEST.replace("text-generation", "text-generatoin") + "expires_at: 1720600000\n"
    notices = services.register(publisher=owner, stream=onnx_package(manifest)).notices
    assert ["expires_at has passed" in notices[0], "'text-generation'" in notices[1]] == [
        True,
        True,
    ]


def test_only_one_s_own_model_can_be_replaced(
    owner: Wallet, publish: Publish, stranger: Wallet
) -> None:
    publish(MANIFEST.replace("echo-text", "their-model"), by=stranger)
    for replaces in ("their-model", "no-such-model", "1.0", "9.9"):
        problem = refusal(owner, onnx_package(MANIFEST + f"replaces: {replaces}\n"))
        assert problem.violations[0].pointer == "/replaces"


def test_a_package_without_python_class_is_still_the_reviewer_s_matter(owner: Wallet) -> None:
    done = services.register(publisher=owner, stream=python_package(PYTHON_MANIFEST, b"x = 1\n"))
    assert done.created
