"""What a gateway remembers is a second old at most, and news is older than no call."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from django.conf import settings
from redis import Redis

from inframind.identity import changes, services
from inframind.identity.models import Token, Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import access
from marketplace.catalog.models import Model, Version
from marketplace.catalog.services import change_terms
from marketplace.gateway import knowledge, loop, resources
from marketplace.gateway.knowledge import Facts, Knowledge

from ..mesh.serving import OWNER, fresh_name, list_doubler
from . import money
from .served import PRODUCTION, REFERENCE, exchange, request, served

pytestmark = pytest.mark.usefixtures("mesh")

GOOD = b'{"values": [1]}'
NO_REDIS = "redis://127.0.0.1:1/0"


def asked(port: int, name: str, token: str) -> tuple[int, str]:
    """Status and fee of a call."""
    lines = ("Content-Type: application/json", f"Authorization: Bearer {token}")
    answer = exchange(port, request("POST", f"/inference/v1/{name}", GOOD, *lines))
    return answer.status, answer.header("Inframind-Fee")


@pytest.mark.parametrize("target", [PRODUCTION, REFERENCE])
@pytest.mark.parametrize("redis_url", ["", NO_REDIS], ids=["with Redis", "without Redis"])
def test_whatever_changes_is_true_for_calls_within_a_second(target: str, redis_url: str) -> None:
    version = money.paid_doubler()
    name, owner = version.model_id, Wallet.objects.get(pk=OWNER)
    money.fund(money.GUEST, 100 * money.FEE)
    token, ending = money.token_of(), money.token_of()
    with served(target, **({"REDIS_URL": redis_url} if redis_url else {})) as port:
        fee = {asked(port, name, each) for each in (token, ending)}
        assert fee == {(200, "0.25 IFM")}
        changed: dict[str, Callable[[], Any]] = {
            "a price": lambda: change_terms(
                version=version,
                fee_base_units=2 * money.FEE,
                payout_address=version.payout_address,
                expires_at=None,
                reason="More",
                changed_by=owner,
            ),
            "a token": lambda: services.revoke_token(
                token_id=Token.objects.filter(wallet=money.GUEST).latest("created_at").pk,
                wallet=Wallet.objects.get(pk=money.GUEST),
            ),
        }
        for change in changed.values():
            change()
        time.sleep(knowledge.FRESH_SECONDS)
        assert asked(port, name, ending)[0] == 401
        assert asked(port, name, token) == (200, "0.5 IFM")
        model = Model.objects.get(pk=name)
        access.change_access(model=model, restricted=True, reason="Guests", changed_by=owner)
        time.sleep(knowledge.FRESH_SECONDS)
        assert asked(port, name, token)[0] == 403
        guests = [access.Guest(address=money.GUEST)]
        access.allow(model=model, guests=guests, changed_by=owner)
        # A refusal is not remembered at all.
        assert asked(port, name, token)[0] == 200
        access.remove(model=model, who=money.GUEST, changed_by=owner)
        time.sleep(knowledge.FRESH_SECONDS)
        assert asked(port, name, token)[0] == 403
        access.change_access(model=model, public=False, reason="Ours", changed_by=owner)
        time.sleep(knowledge.FRESH_SECONDS)
        private, none = (
            exchange(port, request("POST", f"/inference/v1/{each}", GOOD, *lines))
            for lines in [("Content-Type: application/json", f"Authorization: Bearer {token}")]
            for each in (name, "no-such-model")
        )
        assert private.status == none.status == 404


@pytest.fixture
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts are kept so long that only news can drop them."""
    monkeypatch.setattr(knowledge, "FRESH_SECONDS", 600.0)
    monkeypatch.setattr(knowledge, "RENEW_SECONDS", 600.0)


def known() -> Knowledge:
    async def here() -> Knowledge:
        memory = (await resources.here()).knowledge
        await memory.hearing.wait()
        return memory

    return loop.submit(here(), 20)


def told_by_redis(memory: Knowledge, message: str) -> None:
    """Another process says so, until this one has heard it."""
    heard = threading.Event()

    def note(said: str) -> None:
        if said == message:
            heard.set()

    memory.others.append(note)
    try:
        with Redis.from_url(settings.REDIS_URL) as redis:
            deadline = time.monotonic() + 20
            while not heard.is_set() and time.monotonic() < deadline:
                redis.publish(changes.CHANNEL, message)
                heard.wait(0.2)
    finally:
        memory.others.remove(note)
    assert heard.is_set()


@pytest.mark.usefixtures("long_memory")
def test_a_change_in_this_process_is_known_to_the_next_call() -> None:
    version = money.paid_doubler()
    money.fund(money.GUEST, 100 * money.FEE)
    token = money.token_of()
    assert money.answer_of(money.request_of(version.model_id, token)).status == 200
    # What Redis says of the rows above, and of the placing, is not to come between the calls below.
    told_by_redis(known(), "model:nothing")
    assert money.answer_of(money.request_of(version.model_id, token)).status == 200
    # Past everybody who would tell, the old price stands: this is what makes the test one.
    Version.objects.filter(pk=version.pk).update(fee_base_units=3 * money.FEE)
    again = money.answer_of(money.request_of(version.model_id, token))
    assert again.headers["Inframind-Fee"] == "0.25 IFM"
    Version.objects.get(pk=version.pk).save()
    again = money.answer_of(money.request_of(version.model_id, token))
    assert again.headers["Inframind-Fee"] == "0.75 IFM"
    wallet = Wallet.objects.get(pk=money.GUEST)
    services.revoke_token(token_id=Token.objects.get(wallet=wallet).pk, wallet=wallet)
    assert money.answer_of(money.request_of(version.model_id, token)).status == 401


@pytest.mark.usefixtures("long_memory")
def test_news_of_another_process_come_through_redis() -> None:
    name = list_doubler(fresh_name("free")).model_id
    memory = known()
    loop.submit(memory.version(name, None, None), 20)
    key = (name, None, None, False)
    assert key in memory._versions.kept
    told_by_redis(memory, f"model:{name}")
    assert key not in memory._versions.kept


def test_one_question_at_a_time_and_a_refusal_is_asked_again() -> None:
    asked: list[str] = []

    async def read(key: str) -> str:
        asked.append(key)
        await asyncio.sleep(0.01)
        if key == "refused":
            raise Problem("no", "No.", status=401)
        return key.upper()

    async def run() -> None:
        facts: Facts[str, str] = Facts(read, lambda _: 600.0)
        answers = await asyncio.gather(*(facts.get("a") for _ in range(5)))
        assert [each.fact for each in answers] == ["A"] * 5
        for _ in range(2):
            with pytest.raises(Problem):
                await facts.get("refused")
        assert asked == ["a", "refused", "refused"]
        assert "refused" not in facts.kept

    asyncio.run(run())


def test_an_answer_that_is_too_old_when_it_comes_is_not_for_who_asked_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knowledge, "FRESH_SECONDS", 0.05)

    async def run() -> None:
        go_on = asyncio.Event()
        answers = iter(["old", "new", "newer"])

        async def read(key: str) -> str:
            # A database that is held up between what it sees and what it says.
            answer = next(answers)
            await go_on.wait()
            return answer

        facts: Facts[str, str] = Facts(read, lambda _: 600.0)
        first = asyncio.ensure_future(facts.get("a"))
        await asyncio.sleep(0.1)
        later = [asyncio.ensure_future(facts.get("a")) for _ in range(3)]
        await asyncio.sleep(0)
        go_on.set()
        assert (await first).fact == "old"
        assert [(await each).fact for each in later] == ["new"] * 3

    asyncio.run(run())


def test_what_was_being_asked_when_news_came_is_not_remembered() -> None:
    async def run() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()
        answers = iter(["old", "new"])

        async def read(key: str) -> str:
            begun.set()
            answer = next(answers)
            await go_on.wait()
            return answer

        facts: Facts[str, str] = Facts(read, lambda _: 600.0)
        first = asyncio.ensure_future(facts.get("a"))
        await begun.wait()
        facts.drop("a")
        second = asyncio.ensure_future(facts.get("a"))
        go_on.set()
        assert ((await first).fact, (await second).fact) == ("old", "new")
        assert (await facts.get("a")).fact == "new"

    asyncio.run(run())


def test_a_fact_ends_with_what_it_says_of_itself_and_many_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knowledge, "KEPT", 3)

    async def read(key: int) -> int:
        return key

    async def run() -> None:
        ended: Facts[int, int] = Facts(read, lambda _: 0.0)
        await ended.get(1)
        assert ended.now(1) is None
        facts: Facts[int, int] = Facts(read, lambda _: 600.0)
        for key in range(5):
            await facts.get(key)
        assert list(facts.kept) == [2, 3, 4]

    asyncio.run(run())


def test_it_ends_at_whatever_moment_of_connecting_it_is_told_to() -> None:
    async def begun_and_ended() -> int:
        ended = 0
        for step in range(60):
            knowledge = Knowledge()
            await asyncio.sleep(step % 30 * 0.0003)
            await asyncio.wait_for(knowledge.aclose(), 10)
            ended += 1
        return ended

    assert uvloop.run(begun_and_ended()) == 60
