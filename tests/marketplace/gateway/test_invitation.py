"""Models that only some may call: who is asked for a token, who is refused, who is told nothing."""

from __future__ import annotations

from typing import Any

import pytest

from inframind.identity.models import Wallet
from inframind.lib.ids import new_uuid7
from marketplace.catalog import services
from marketplace.catalog.access import Guest
from marketplace.catalog.models import Model
from tests.marketplace.catalog.conftest import (
    Publish,
    activated,
    node,
    owner,
    publish,
    store_dir,
    stranger,
)
from tests.marketplace.catalog.support import MANIFEST, PRIVATE, bearer

__all__ = ["activated", "node", "owner", "publish", "store_dir", "stranger"]

pytestmark = pytest.mark.django_db(transaction=True)


def told(answer: Any, name: str) -> tuple[int, dict[str, Any], str]:
    """Status, problem without its instance, and challenge, with the name taken out."""
    problem = {key: value for key, value in answer.json().items() if key != "instance"}
    text = str(problem).replace(name, "NAME")
    return answer.status_code, {"text": text}, answer.headers.get("WWW-Authenticate", "")


@pytest.fixture
def ask(client: Any) -> Any:
    def ask(name: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, Any], str]:
        answer = client.post(
            f"/inference/v1/{name}", {"text": "a"}, "application/json", headers=headers or {}
        )
        return told(answer, name.partition("@")[0])

    return ask


def test_a_model_by_invitation_wants_a_token_and_then_the_list(
    activated: Publish, owner: Wallet, stranger: Wallet, ask: Any
) -> None:
    activated()
    model = Model.objects.get()
    services.change_access(
        model=model, public=True, auth_required=True, restricted=True, reason="x", changed_by=owner
    )
    assert ask("echo-text")[0] == 401
    status, problem, _ = ask("echo-text", bearer(stranger, "invoke"))
    assert (status, "not-on-the-list" in problem["text"]) == (403, True)
    assert "infra model access ask" in problem["text"]
    services.allow(model=model, guests=[Guest(stranger.pk)], changed_by=owner)
    for wallet in (owner, stranger):
        # Let in: it is only that there is no node here.
        assert ask("echo-text", bearer(wallet, "invoke"))[0] == 503


def test_a_token_for_own_models_is_told_the_same_of_every_other_name(
    activated: Publish, owner: Wallet, stranger: Wallet, ask: Any
) -> None:
    activated()
    private = activated(PRIVATE.replace("echo-text", "secret-one")).model
    services.allow(model=private, guests=[Guest(stranger.pk)], changed_by=owner)
    headers = bearer(stranger, "invoke", owned=True)
    names = ("echo-text", "secret-one", "nobody-has", "echo-text@9.9.9", "No Name")
    [(status, problem, challenge)] = {
        (answer[0], answer[1]["text"], answer[2])
        for answer in (ask(name, headers) for name in names)
    }
    assert (status, "insufficient-scope" in problem) == (403, True)
    assert 'error="insufficient_scope"' in challenge
    assert ask("echo-text", bearer(owner, "invoke", owned=True))[0] == 503


def test_a_token_s_names_are_held_against_the_call_before_any_look_up(
    activated: Publish, stranger: Wallet, ask: Any
) -> None:
    activated()
    headers = bearer(stranger, "invoke", only=("other-one",))
    answers = [ask(name, headers) for name in ("echo-text", "nobody-has", str(new_uuid7()))]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 403


def test_a_free_open_model_is_called_by_everybody(activated: Publish, ask: Any) -> None:
    activated(MANIFEST)
    assert ask("echo-text")[0] == 503
