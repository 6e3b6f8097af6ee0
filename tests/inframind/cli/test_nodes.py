"""Nodes: registered with the wallet that is signed in, listed, and looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from inframind.cli import nodes
from inframind.cli.refusal import Refusal
from marketplace.mesh.models import Node, NodeChallenge
from tests.inframind.cli.conftest import ADDRESS, OTHER_KEY, Infra

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(
    triton_nodes: list[dict[str, Any]], settings: Settings, signed_in: str, tmp_path: Path
) -> dict[str, Any]:
    """A running Triton server that nobody has registered."""
    settings.ALLOW_LOOPBACK_NODES = True
    settings.TRITON_NODES = []
    (tmp_path / "secret").write_text(triton_nodes[0]["control_secret"] + "\n")
    return triton_nodes[0]


def registered(infra: Infra, server: dict[str, Any], *arguments: str) -> Any:
    return infra(
        "node", "register", "--endpoint", server["endpoint"], "--name", "mine-1",
        "--control-header", server["control_header"], *arguments,
    )  # fmt: skip


def test_a_node_joins_lists_and_shows(infra: Infra, server: dict[str, Any]) -> None:
    outcome = registered(infra, server, "--control-secret-file", "secret", "--capacity", "4")
    assert outcome.status == 0, outcome.stderr
    assert "Node        mine-1" in outcome.stdout.splitlines()
    assert f"  Wallet: {ADDRESS}" in outcome.stderr.splitlines()
    assert server["control_secret"] not in outcome.stdout + outcome.stderr
    assert Node.objects.get().operator_id == ADDRESS
    assert infra("node", "list").stdout == f"mine-1\tready\t4\t0\t0\t{ADDRESS}\t-\n"
    assert len(json.loads(infra("node", "list", "--json").stdout)) == 1
    assert "Operator    " + ADDRESS in infra("node", "status", "mine-1").stdout.splitlines()
    document = json.loads(infra("node", "status", "mine-1", "--json").stdout)
    assert (document["name"], document["capacity"], document["trusted"]) == ("mine-1", 4, False)


def test_a_secret_that_opens_nothing_is_refused(
    infra: Infra, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_NODE_SECRET", "guessed-guessed-guessed")
    outcome = registered(infra, server)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "did not answer the challenge" in outcome.stderr
    assert "guessed" not in outcome.stderr
    assert not Node.objects.exists()


def test_another_wallet_than_the_one_signed_in_signs_nothing(
    infra: Infra, server: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_PRIVATE_KEY", OTHER_KEY)
    outcome = registered(infra, server, "--control-secret-file", "secret")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "Nothing was signed." in outcome.stderr
    assert "infra login" in outcome.stderr


def test_without_the_control_secret_nothing_is_sent(infra: Infra, server: dict[str, Any]) -> None:
    for arguments, words in (
        ([], "INFRA_NODE_SECRET"),
        (["--control-secret-file", "nowhere"], "nowhere cannot be read"),
    ):
        outcome = registered(infra, server, *arguments)
        assert outcome.status == 2
        assert words in outcome.stderr
    assert not NodeChallenge.objects.exists()


def test_without_signing_in_the_way_is_told(
    infra: Infra, at_live_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFRA_NODE_SECRET", "s" * 20)
    outcome = infra("node", "register", "--endpoint", "https://a.example", "--name", "a")
    assert (outcome.status, outcome.stdout) == (4, "")


def test_no_node_and_an_unknown_one_are_told(infra: Infra, at_live_server: str) -> None:
    assert infra("node", "list").stdout == ""
    assert infra("node", "list", "--json").stdout == "[]\n"
    outcome = infra("node", "status", "nowhere")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "infra node list" in outcome.stderr


@pytest.mark.parametrize(
    "text",
    [
        "localhost wants you to sign in with your Ethereum account:\n" + ADDRESS,
        "evil.example asks you to prove that you operate a node.\n\nWallet: {a}\nEndpoint: e\n"
        "Nonce: n\nValid until: x",
        "host asks you to prove that you operate a node.\n\nWallet: {a}\nEndpoint: other\n"
        "Nonce: n\nValid until: x",
        "host asks you to prove that you operate a node.\n\nWallet: {a}\nEndpoint: e\nNonce: n\n"
        "Valid until: x\nAnd pay 5 ETH",
        "",
    ],
)
def test_a_server_that_wants_something_else_signed_gets_no_signature(text: str) -> None:
    challenge = {"text": text.format(a=ADDRESS), "endpoint": "e", "nonce": "n"}
    with pytest.raises(Refusal, match="Nothing was signed"):
        nodes._require_honest(challenge, "https://host", ADDRESS)
