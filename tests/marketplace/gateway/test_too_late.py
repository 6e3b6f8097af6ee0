"""A call that outlasts its front goes on: nobody may be told that it cost nothing."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings

from marketplace.gateway import bridge, loop

from ..holding import held_up
from ..mesh.serving import fresh_name
from .conftest import Call

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_that_goes_on_is_not_said_to_be_free_and_names_its_receipt(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "GRACE_SECONDS", -settings.CALL_DEADLINE_SECONDS)
    with held_up():
        answer = call(fresh_name("nothing"), {"values": [1]})
    problem = answer.json()
    assert (answer.status_code, problem["charged"], problem["retry_safe"]) == (504, None, False)
    assert str(UUID(answer["Inframind-Receipt"])) == answer["Inframind-Receipt"]


def test_a_call_that_ends_in_the_very_moment_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    class JustInTime(Future[str]):
        """Done between the end of the patience and the look at it."""

        def result(self, timeout: float | None = None) -> str:
            if not self.done():
                self.set_result("served")
                raise FutureTimeout
            return super().result(timeout)

    def at_once(work: Any, _: Any) -> JustInTime:
        work.close()
        return JustInTime()

    async def work() -> str:
        return "never asked"

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", at_once)
    assert loop.submit(work(), 0) == "served"
    monkeypatch.undo()
    loop.stop()


def test_a_timeout_of_the_works_own_stays_one() -> None:
    async def work() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        loop.submit(work(), 5)
    loop.stop()
