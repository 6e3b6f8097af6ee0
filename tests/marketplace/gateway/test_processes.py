"""Several processes, one balance: exactly what is there is spent, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import F

from billing.ledger.models import Lease
from marketplace.gateway.models import Call

from . import money
from .money import FEE, GUEST

pytestmark = pytest.mark.usefixtures("mesh")
TOLD = "/problems/insufficient-balance"


@contextmanager
def process(**plan: Any) -> Iterator[subprocess.Popen[str]]:
    """A caller in a process of its own, ready to call."""
    parts = urlsplit(settings.DATABASE_URL)
    database = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "inframind.settings",
        "DATABASE_URL": database,
        "REDIS_URL": settings.REDIS_URL,
        "STORE_DIR": str(settings.STORE_DIR),
        "LOG_LEVEL": "CRITICAL",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.marketplace.gateway.caller_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=settings.BASE_DIR,
        env=environment,
    ) as child:
        try:
            tell(child, json.dumps(plan))
            yield child
        finally:
            child.kill()


def tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def heard(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def ended(child: subprocess.Popen[str]) -> None:
    """Lets the process end as a process that is told to."""
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(60) == 0


def all_at_once(processes: int, calls: int, **plan: Any) -> Counter[str]:
    """So many calls at once in each of so many processes, which then end."""
    answers: Counter[str] = Counter()
    with ExitStack() as stack:
        children = [stack.enter_context(process(calls=calls, **plan)) for _ in range(processes)]
        assert [heard(child) for child in children] == ["ready"] * processes
        for child in children:
            tell(child, "call")
        for child in children:
            answers.update(json.loads(heard(child)))
        for child in children:
            ended(child)
    return answers


def test_200_at_once_over_4_processes_on_a_balance_for_10_serve_exactly_10() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 10 * FEE)

    answers = all_at_once(4, 50, name=version.model_id, token=money.token_of())

    assert answers == {"served": 10, TOLD: 190}
    money.books_are_right()
    assert (money.balance(), money.spent()) == (0, 10 * FEE)
    assert Call.objects.filter(outcome="served").count() == 10
    assert Call.objects.filter(outcome="refused", fee_base_units=0).count() == 190


def test_without_the_admission_the_same_calls_spend_what_is_not_there() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 10 * FEE)

    answers = all_at_once(2, 50, name=version.model_id, token=money.token_of(), admission=False)

    assert answers == {"served": 100}
    assert money.spent() == 100 * FEE > 10 * FEE


def test_a_clock_ten_minutes_off_changes_nothing() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 6 * FEE)
    token = money.token_of()
    for minutes in (10, -10):
        plan = {"name": version.model_id, "token": token, "clock_seconds": 60 * minutes}
        assert all_at_once(1, 3, **plan) == {"served": 3}
        money.books_are_right()
    assert money.balance() == 0
    now = money.rows("SELECT statement_timestamp()")[0][0]
    assert all(abs(row.created_at - now) < timedelta(minutes=5) for row in Call.objects.all())


def test_the_lease_of_a_killed_process_comes_back_by_itself() -> None:
    version = money.paid_doubler()
    money.fund(GUEST, 2 * FEE)
    token = money.token_of()
    with process(name=version.model_id, token=token, calls=1) as child:
        assert heard(child) == "ready"
        tell(child, "call")
        assert json.loads(heard(child)) == {"served": 1}
        tell(child, "hang")
        assert heard(child) == "held"
        child.send_signal(signal.SIGKILL)
    request = money.request_of(version.model_id, token)
    assert money.kinds([money.answer_of(request)]) == {TOLD: 1}
    assert money.balance() == FEE

    # Its time passes.
    Lease.objects.update(expires_at=F("expires_at") - timedelta(hours=1))
    assert money.kinds([money.answer_of(money.request_of(version.model_id, token))]) == {
        "served": 1
    }
    money.idle()
    money.swept()
    money.books_are_right()
    assert (money.balance(), money.spent()) == (0, 2 * FEE)
