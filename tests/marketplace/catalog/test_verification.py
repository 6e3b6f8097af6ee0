"""Verification: checks as evidence, badges, activation, and reasons that an owner can act on."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from pytest_django import DjangoCaptureOnCommitCallbacks

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, Violation
from marketplace.catalog import checks, queries, services, signals, verification
from marketplace.catalog.models import Badge, Check, CodeReview, Verification, Version
from marketplace.catalog.trial import TrialFailure
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import (
    MANIFEST,
    PYTHON_MANIFEST,
    PlayedNode,
    python_package,
)


def verified(version: Version) -> tuple[Version, Verification]:
    run = services.verify_next()
    assert run is not None
    version.refresh_from_db()
    return version, run


def found(run: Verification, kind: str) -> Check:
    return run.checks.get(kind=kind)


def badges(version: Version) -> list[str]:
    return sorted(version.badges.values_list("kind", flat=True))


def test_a_sound_model_becomes_active_with_evidence(publish: Publish, node: PlayedNode) -> None:
    version, run = verified(publish())
    assert (version.state, version.state_reason, run.state) == ("active", "", "passed")
    assert (run.node_name, run.attempts, node.lent) == ("node-a", 1, 1)
    kinds = list(run.checks.values_list("kind", flat=True))
    assert kinds == ["hash", "manifest", "load", "examples", "generated", "structured"]
    assert set(run.checks.values_list("cid", flat=True)) == {version.cid}
    generated = found(run, "generated")
    assert generated.cases_total == generated.cases_passed >= checks.MIN_GENERATED
    assert found(run, "load").duration_ms == 7
    assert (found(run, "examples").cases_passed, found(run, "hash").cases_passed) == (1, 2)
    assert badges(version) == ["agent-compatible", "hash-verified", "schema-validated"]
    badge = version.badges.get(kind="schema-validated")
    assert badge.evidence == generated
    assert badge.expires_at - badge.granted_at == timedelta(days=90)
    assert version.model.current == version


def test_every_generated_input_keeps_the_schema_and_comes_again(
    publish: Publish, node: PlayedNode
) -> None:
    version, _ = verified(publish())
    first = node.asked[1:]
    assert all(set(document) == {"text"} and len(document["text"]) <= 200 for document in first)
    node.asked.clear()
    services.request_verification(version=version)
    verified(version)
    assert node.asked[1:] == first


def test_a_schema_with_two_inputs_has_them_repeated(publish: Publish, node: PlayedNode) -> None:
    node.answer = lambda document: {"echo": "x"}
    schema = "{text: {enum: [a, b]}}"
    manifest = MANIFEST.replace("{text: {type: string, maxLength: 200}}", schema)
    manifest = manifest[: manifest.index("examples:")]
    _, run = verified(publish(manifest))
    generated = found(run, "generated")
    assert (generated.cases_total, "2 of them distinct" in generated.detail) == (25, True)


def fails(code: str, detail: str, **kwargs: Any) -> Any:
    def answer(document: Any) -> Any:
        raise TrialFailure(code, detail, **kwargs)

    return answer


def unfit(document: Any) -> Any:
    if document["text"] == "hello":
        return {"echo": "hello"}
    raise Problem("invalid-input", "no", status=422, violations=(Violation("/text", "too long"),))


@pytest.mark.parametrize(
    ("answer", "kind", "code", "words"),
    [
        (lambda d: {"echo": "HELLO"}, "examples", "other-output", "/echo is 'HELLO', not 'hello'"),
        (lambda d: {"echo": 3}, "examples", "invalid-output", "output_schema at /echo"),
        (lambda d: {"echo": math.nan}, "examples", "invalid-output", "not JSON"),
        (lambda d: {"wrong": 1}, "examples", "invalid-output", "output_schema at /"),
        (
            lambda d: {"echo": d["text"] or 0},
            "generated",
            "invalid-output",
            "output_schema at /echo",
        ),
        (fails("model-failed", "It raised KeyError."), "examples", "model-failed", "KeyError"),
        (fails("invalid-output", "Output has NaN."), "examples", "invalid-output", "NaN"),
        (fails("timed-out", "No answer in 10 s."), "examples", "timed-out", "No answer"),
        (fails("model-failed", "Oh", remedy="Do so."), "examples", "model-failed", "Oh. Do so."),
        (unfit, "generated", "invalid-input", "/text: too long"),
    ],
)
def test_a_model_that_breaks_its_word_stays_pending_and_says_why(
    publish: Publish, node: PlayedNode, answer: Any, kind: str, code: str, words: str
) -> None:
    node.answer = answer
    version, run = verified(publish())
    assert (version.state, run.state, run.reason_code) == ("pending", "failed", code)
    check = found(run, kind)
    assert (check.passed, check.cases_passed < check.cases_total) == (False, True)
    assert words in run.reason
    assert version.state_reason == run.reason
    assert badges(version) == []
    assert version.model.current is None


def test_a_model_that_hangs_is_asked_once(publish: Publish, node: PlayedNode) -> None:
    node.answer = fails("timed-out", "No answer in 10 s.")
    verified(publish(MANIFEST + "  - {input: {text: a}, output: {echo: a}}\n"))
    assert len(node.asked) == 1


def test_a_model_that_does_not_load_says_so(publish: Publish, node: PlayedNode) -> None:
    node.load_failure = TrialFailure("load-failed", "It crashed on load.", "Mend it.")
    version, run = verified(publish())
    assert (run.state, run.reason_code) == ("failed", "load-failed")
    assert version.state_reason == "Loads on a node: no. It crashed on load. Mend it."


def test_damaged_bytes_are_never_loaded(
    publish: Publish, node: PlayedNode, store_dir: Path
) -> None:
    version = publish()
    cid = next(file["cid"] for file in version.files if file["path"] == "model.onnx")
    (block,) = (store_dir / "blocks").rglob(cid)
    block.write_bytes(block.read_bytes() + b"!")
    version, run = verified(version)
    assert (run.reason_code, found(run, "hash").passed, node.lent) == ("hash-failed", False, 0)
    assert "Publish the same package again" in version.state_reason


def test_without_a_node_the_run_waits_longer_each_time(publish: Publish, node: PlayedNode) -> None:
    node.load_failure = TrialFailure("no-node", "No node is ready.", retry=True)
    version, run = verified(publish())
    assert (run.state, run.reason_code, run.attempts) == ("queued", "no-node", 1)
    assert version.state_reason == "Waiting for a node: No node is ready."
    assert services.verify_next() is None
    pauses = []
    for _ in range(3):
        Verification.objects.update(due_at=Now())
        run = services.verify_next() or run
        pauses.append(round((run.due_at - (run.started_at or run.due_at)).total_seconds()))
    assert pauses == [4, 8, 16]
    node.load_failure = None
    Verification.objects.update(due_at=Now())
    version, run = verified(version)
    assert (version.state, version.state_reason, run.attempts) == ("active", "", 5)


def test_a_node_lost_in_the_middle_is_not_the_model_s_fault(
    publish: Publish, node: PlayedNode
) -> None:
    node.answer = fails("node-lost", "The node was lost.", retry=True)
    version, run = verified(publish())
    assert (run.state, run.checks.count(), version.state) == ("queued", 0, "pending")


def test_a_dead_worker_s_run_comes_back_after_its_lease(publish: Publish, node: PlayedNode) -> None:
    version = publish()
    Verification.objects.update(
        state="running", attempts=1, lease_expires_at=Now() + timedelta(seconds=60)
    )
    assert services.verify_next() is None
    Verification.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    version, run = verified(version)
    assert (version.state, run.attempts, run.workers_lost) == ("active", 2, 1)


def test_a_run_that_kills_its_workers_ends(publish: Publish, node: PlayedNode) -> None:
    publish()
    Verification.objects.update(
        state="running",
        attempts=4,
        workers_lost=verification.MAX_WORKERS_LOST,
        lease_expires_at=Now() - timedelta(seconds=1),
    )
    run = services.verify_next()
    assert run is not None
    assert (run.state, run.reason_code, node.lent) == ("failed", "workers-lost", 0)


def test_a_worker_that_lost_its_lease_changes_nothing(publish: Publish, node: PlayedNode) -> None:
    version = publish()

    def taken_over(document: Any) -> Any:
        Verification.objects.update(attempts=9)
        return {"echo": document["text"]}

    node.answer = taken_over
    version, run = verified(version)
    assert (run.state, version.state, badges(version)) == ("running", "pending", [])


def test_code_runs_only_after_its_approval(owner: Wallet, staff: Wallet, node: PlayedNode) -> None:
    version = services.register(publisher=owner, stream=python_package()).version
    assert (services.verify_next(), node.lent) == (None, 0)
    with pytest.raises(Problem) as caught:
        services.request_verification(version=version)
    assert (caught.value.code, version.cid in caught.value.detail) == ("review-needed", True)
    services.review_code(version=version, reviewer=staff, verdict="approved", note="read")
    version, _ = verified(version)
    assert version.state == "active"


def test_an_approval_binds_to_the_bytes(owner: Wallet, staff: Wallet, node: PlayedNode) -> None:
    first = services.register(publisher=owner, stream=python_package()).version
    services.review_code(version=first, reviewer=staff, verdict="approved")
    changed = python_package(
        PYTHON_MANIFEST.replace("1.0", "1.1"), b"import os\nclass Model: ...\n"
    )
    second = services.register(publisher=owner, stream=changed).version
    assert second.state_reason.startswith("Waiting for a code review")
    assert not second.verifications.exists()


def test_a_refusal_says_why_and_a_later_one_delists(
    owner: Wallet, staff: Wallet, node: PlayedNode
) -> None:
    version = services.register(publisher=owner, stream=python_package()).version
    services.review_code(version=version, reviewer=staff, verdict="refused", note="It opens files.")
    version.refresh_from_db()
    assert "It opens files." in version.state_reason
    services.review_code(version=version, reviewer=staff, verdict="approved")
    version, _ = verified(version)
    services.review_code(version=version, reviewer=staff, verdict="refused", note="Missed a line.")
    version.refresh_from_db()
    assert (version.state, version.model.current) == ("delisted", None)


@pytest.mark.parametrize(("is_staff", "words"), [(True, "own code"), (False, "not yours")])
def test_nobody_reviews_their_own_code_nor_without_being_staff(
    owner: Wallet, stranger: Wallet, is_staff: bool, words: str
) -> None:
    version = services.register(publisher=owner, stream=python_package()).version
    reviewer = owner if is_staff else stranger
    reviewer.is_staff = is_staff
    reviewer.save()
    with pytest.raises(Problem) as caught:
        services.review_code(version=version, reviewer=reviewer, verdict="approved")
    assert (caught.value.status, words in caught.value.detail) == (403, True)
    assert not CodeReview.objects.exists()


def test_a_model_without_code_is_not_reviewed(publish: Publish, staff: Wallet) -> None:
    with pytest.raises(Problem) as caught:
        services.review_code(version=publish(), reviewer=staff, verdict="approved")
    assert caught.value.status == 409


@pytest.mark.parametrize(("offered", "granted"), [(("enclave",), True), ((), False)])
def test_privacy_is_granted_where_a_node_offers_it(
    publish: Publish, node: PlayedNode, offered: tuple[str, ...], granted: bool
) -> None:
    node.privacy = offered
    version, run = verified(publish(MANIFEST + "privacy: [enclave]\n"))
    assert version.state == "active"
    assert ("privacy-ready" in badges(version), found(run, "privacy").passed) == (granted, granted)


def test_free_form_output_is_not_agent_compatible(publish: Publish, node: PlayedNode) -> None:
    node.answer = lambda document: document["text"]
    manifest = MANIFEST[: MANIFEST.index("output_schema:")] + "output_schema: {type: string}\n"
    version, run = verified(publish(manifest))
    assert (version.state, found(run, "structured").passed) == ("active", False)
    assert badges(version) == ["hash-verified", "schema-validated"]


def test_a_live_version_that_fails_later_loses_badges_not_callers(
    publish: Publish, node: PlayedNode
) -> None:
    version, _ = verified(publish())
    node.answer = lambda document: {"echo": 0}
    services.request_verification(version=version)
    version, run = verified(version)
    assert (version.state, run.state, badges(version)) == ("active", "failed", ["hash-verified"])
    assert version.state_reason.startswith("The latest verification failed: ")


def test_what_is_replaced_is_deprecated_with_its_successor(
    activated: Publish, node: PlayedNode
) -> None:
    old = activated()
    new = activated(MANIFEST.replace("1.0", "2.0") + "replaces: 1.0\n")
    old.refresh_from_db()
    assert (old.state, old.successor, new.state) == ("deprecated", new, "active")
    assert queries.get_model("echo-text", viewer=None).current == new
    renamed = activated(MANIFEST.replace("echo-text", "repeat-words") + "replaces: echo-text\n")
    new.refresh_from_db()
    assert (new.state, new.successor) == ("deprecated", renamed)
    assert queries.servable("echo-text", None, viewer=None).successor_number == "repeat-words@1.0.0"


def test_a_pre_release_does_not_become_current(activated: Publish) -> None:
    release = activated()
    preview = activated(MANIFEST.replace("1.0", "2.0.0-rc.1"))
    assert (preview.state, preview.model.current) == ("active", release)


def test_news_is_sent_after_the_commit(
    publish: Publish,
    node: PlayedNode,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    heard: list[str] = []

    def hear(signal: str) -> Any:
        return lambda sender, version, **_: heard.append(f"{signal} {version} {version.state}")

    verified_ear, activated_ear = hear("verified"), hear("activated")
    signals.version_verified.connect(verified_ear)
    signals.version_activated.connect(activated_ear)
    with django_capture_on_commit_callbacks(execute=True):
        verified(publish())
    assert heard == ["activated echo-text@1.0.0 active", "verified echo-text@1.0.0 active"]


def test_one_run_of_a_version_at_a_time(publish: Publish) -> None:
    version = publish()
    assert services.request_verification(version=version) == version.verifications.get()


def test_the_command_prints_the_checks(
    publish: Publish, node: PlayedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    call_command("verify_model", "echo-text@1.0")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok   Bytes hash to the CID 2/2")
    assert lines[-1] == "echo-text@1.0.0 passed"


def test_the_command_fails_with_the_model(
    publish: Publish, node: PlayedNode, capsys: pytest.CaptureFixture[str]
) -> None:
    publish()
    node.answer = lambda document: {"echo": 0}
    with pytest.raises(SystemExit) as caught:
        call_command("verify_model", "echo-text")
    assert caught.value.code == 1
    assert "FAIL Examples give their golden outputs 0/1" in capsys.readouterr().out
    with pytest.raises(CommandError, match="There is no model called no-such"):
        call_command("verify_model", "no-such")


def test_the_review_command_records_a_verdict(
    owner: Wallet, staff: Wallet, capsys: pytest.CaptureFixture[str]
) -> None:
    version = services.register(publisher=owner, stream=python_package()).version
    call_command(
        "review_version", "echo-text@1.0.0", "--approve", "--reviewer", staff.pk, "--note", "read"
    )
    assert capsys.readouterr().out == f"echo-text@1.0.0 {version.cid} approved\n"
    assert CodeReview.objects.get().reviewer == staff
    assert Badge.objects.count() == 0
