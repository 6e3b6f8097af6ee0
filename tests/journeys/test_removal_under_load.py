"""What is taken away is gone within a second, on a gateway that is busy serving it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from psycopg import sql

from tests.journeys.market import Market, fresh_name, fresh_wallet

pytestmark = pytest.mark.xdist_group("private")
TEXT = {"text": "Das Wetter ist heute schön und wir fahren an den See."}
CALLERS = 4
WITHIN = timedelta(seconds=1)
_NOW = sql.SQL("SELECT clock_timestamp()")
_SERVED_SINCE = sql.SQL(
    "SELECT count(*) FROM gateway_call WHERE lower(wallet_id) = %s AND outcome = 'served'"
    " AND created_at > %s"
)


@dataclass
class Load:
    """Callers that go on for as long as the block lasts, and every status that they were given."""

    statuses: dict[str, list[int]] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, who: str, status: int) -> None:
        with self.changed:
            self.statuses.setdefault(who, []).append(status)
            self.changed.notify_all()

    def wait(self, wanted: Callable[[dict[str, list[int]]], bool]) -> None:
        """Until the statuses are as wanted. Raises AssertionError with the last of them."""
        with self.changed:
            met = self.changed.wait_for(lambda: wanted(self.statuses), timeout=30)
        assert met, {who: given[-5:] for who, given in self.statuses.items()}


@contextmanager
def _load(market: Market, name: str, tokens: dict[str, str]) -> Iterator[Load]:
    load = Load()

    def call(who: str, token: str) -> None:
        with market.http(token) as http:
            while not load.stopped.is_set():
                load.note(who, http.post(f"/inference/v1/{name}", json=TEXT).status_code)

    threads = [
        threading.Thread(target=call, args=each) for each in tokens.items() for _ in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stopped.set()
        for thread in threads:
            thread.join()


@dataclass(frozen=True)
class Invited:
    """A private model with two wallets on its list."""

    name: str
    owner: str
    removed: str
    removed_token: str
    staying: str
    staying_token: str


@pytest.fixture
def invited(market: Market, tmp_path: Path) -> Invited:
    name, removed, staying = fresh_name("invited"), fresh_wallet(), fresh_wallet()
    market.fund(removed, staying, ifm=1_000)
    owner, removed_token, staying_token = market.tokens(
        (fresh_wallet(), "publish", "invoke", "manage"), (removed, "invoke"), (staying, "invoke")
    )
    folder = market.package(
        "language-id-v1",
        name,
        tmp_path,
        access=f'{{public: false, auth_required: true, allow_list: ["{removed}", "{staying}"]}}',
    )
    market.register(folder, token=owner)
    market.await_state(name, token=owner)
    return Invited(name, owner, removed, removed_token, staying, staying_token)


def test_a_wallet_taken_off_the_list_is_served_nothing_after_a_second_and_others_go_on(
    market: Market, invited: Invited
) -> None:
    def take_off(http: httpx.Client) -> Any:
        return http.delete(f"/api/v1/models/{invited.name}/access/entries/{invited.removed}")

    assert _taken_away(market, invited, take_off, token=invited.owner) == {404}


def test_a_revoked_token_is_served_nothing_after_a_second_and_others_go_on(
    market: Market, invited: Invited
) -> None:
    def revoke(http: httpx.Client) -> Any:
        return http.post("/api/v1/tokens/revoke", data={"token": invited.removed_token})

    assert _taken_away(market, invited, revoke) == {401}


def test_a_model_made_private_is_served_to_nobody_else_after_a_second(
    market: Market, invited: Invited
) -> None:
    path = f"/api/v1/models/{invited.name}/access"
    public = {"public": True, "auth_required": True, "restricted": False, "reason": "Open day."}
    private = {"public": False, "auth_required": True, "restricted": True, "reason": "Over."}
    with market.http(invited.owner) as http:
        assert http.patch(path, json=public).status_code == 200
        gone = http.delete(f"{path}/entries/{invited.removed}")
        assert gone.status_code in (200, 204), gone.text

    def close(http: httpx.Client) -> Any:
        return http.patch(path, json=private)

    assert _taken_away(market, invited, close, token=invited.owner) == {404}


def _taken_away(
    market: Market, invited: Invited, act: Callable[[httpx.Client], Any], *, token: str = ""
) -> set[int]:
    """What the one is answered from a second after the act on; the other is served throughout."""
    tokens = {"removed": invited.removed_token, "staying": invited.staying_token}
    with _load(market, invited.name, tokens) as load:
        load.wait(lambda given: all(len(given.get(who, ())) > 10 for who in tokens))
        assert {status for given in load.statuses.values() for status in given} == {200}
        with market.http(token) as http:
            answer = act(http)
        assert answer.status_code in (200, 204), answer.text
        [(done,)] = market.rows(_NOW)
        deadline: datetime = done + WITHIN
        load.wait(lambda _: market.rows(_NOW)[0][0] > deadline)
        since = {who: len(given) for who, given in load.statuses.items()}
        load.wait(lambda given: all(len(given[who]) > since[who] + 2 * CALLERS for who in tokens))
    # Calls that were under way at the deadline are the first few; their rows tell their time.
    assert market.rows(_SERVED_SINCE, invited.removed, deadline) == [(0,)]
    assert set(load.statuses["staying"]) == {200}
    [(served,)] = market.rows(_SERVED_SINCE, invited.staying, deadline)
    assert served > 0
    return set(load.statuses["removed"][since["removed"] + CALLERS :])
