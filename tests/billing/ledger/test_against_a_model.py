"""The ledger beside an independent model of it, whatever is done in whatever order.

``make test`` does some 30 runs of it, the same ones each time. The drill does 100,000 steps with a
seed that it prints: ``LEDGER_SEED=… make drill TESTS=tests/billing/ledger`` does those of another.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, TypeVar
from uuid import UUID

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing.ledger import holds, leases, queries, reconciliation, services
from billing.ledger.codes import address_of, epoch_code
from billing.ledger.models import Account, Reason
from billing.ledger.services import HoldRequest, Posting, Settling
from inframind.lib.problem import Problem
from tests.billing.ledger.books import ADDRESS, OTHER, OTHER_WALLET, WALLET
from tests.billing.ledger.model import Books, Lent, Refusal
from tests.database import conninfo

STEPS: Final = 100_000
SEED: Final = 20_261_124  # of the drill, unless another is asked for; none has failed so far
STEPS_A_RUN: Final = 50
COMPARED_EVERY: Final = 8  # steps, and at the end of each run
WALLETS: Final = (WALLET, OTHER_WALLET)
ACCOUNTS: Final = (*WALLETS, "chain", "treasury", "escrow:bounty")
_TABLES: Final = "ledger_holdending, ledger_hold, ledger_transfer, ledger_lease, ledger_account"
_LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
_NO_SHRINKING: Final = (Phase.explicit, Phase.generate)

Result = TypeVar("Result")
accounts = st.sampled_from(ACCOUNTS)
wallets = st.sampled_from(WALLETS)
amounts = st.integers(1, 12)
picks = st.integers(0, 63)


class Database:
    """A loop and a connection for the leases, for all runs of a test."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.opened = self.run(psycopg.AsyncConnection.connect(conninfo(), autocommit=True))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self.opened.close())
        self.loop.close()


class Ledger(RuleBasedStateMachine):
    database: ClassVar[Database]
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.number = 0
        self.epoch = 0
        self.ended: list[UUID] = []
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {_TABLES} RESTART IDENTITY")
        for address, code in ((ADDRESS, WALLET), (OTHER, OTHER_WALLET)):
            services.set_day_limit(address, None)
            self.books.posted[code] = 0
        # A day that lasts as long as the run, at whatever time it is started.
        Account.objects.update(day="2999-01-01")

    def fresh(self) -> UUID:
        self.number += 1
        return UUID(int=self.number)

    def both(self, real: Callable[[], Result], model: Callable[[], Result]) -> Result | None:
        """Does it in both and compares; what came of it, None where it was refused."""
        refusal: Refusal | None = None
        try:
            expected = model()
        except Refusal as refused:
            refusal = refused
        if refusal is None:
            assert real() == expected
            return expected
        with pytest.raises(Problem) as caught:
            real()
        assert caught.value.code == refusal.code
        if refusal.accounts:
            assert isinstance(caught.value, services.InsufficientFunds)
            named = refusal.accounts[caught.value.account]
            assert caught.value.available_base_units == named
        return None

    def a_lease(self, pick: int) -> UUID:
        known = [*self.books.leases, *self.ended[-1:]]
        return known[pick % len(known)] if known else UUID(int=0)

    def a_hold(self, pick: int) -> UUID:
        """Mostly one that has something left."""
        left = [pk for pk, held in self.books.holds.items() if held.remaining]
        known = left if left and pick < 48 else list(self.books.holds)
        return known[pick % len(known)]

    # --- transfers --------------------------------------------------------------------------

    @initialize(funds=st.tuples(*[st.sampled_from([0, 40, 300, 10**60 + 7])] * 3))
    def begin(self, funds: tuple[int, int, int]) -> None:
        for code, amount in zip((*WALLETS, "treasury"), funds, strict=True):
            if amount:
                self.post_both([Posting(self.fresh(), "chain", code, amount, Reason.DEPOSIT)])

    @rule(wallet=wallets, amount=st.integers(1, 60))
    def deposit(self, wallet: str, amount: int) -> None:
        self.post_both([Posting(self.fresh(), "chain", wallet, amount, Reason.DEPOSIT)])

    @rule(
        asked=st.lists(st.tuples(accounts, accounts, amounts, picks), min_size=1, max_size=4),
    )
    def post(self, asked: list[tuple[str, str, int, int]]) -> None:
        batch = []
        for debit, credit, amount, pick in asked:
            other = credit if credit != debit else "treasury" if debit != "treasury" else WALLET
            known = list(self.books.transfers.values())
            if pick < 8 and known:
                again = known[pick % len(known)]
                # One of them in four comes with another amount: that is another content.
                changed = again.amount_base_units + (pick % 4 == 0)
                batch.append(
                    Posting(
                        again.id, again.debit, again.credit, changed, again.reason, again.subject
                    )
                )
            else:
                batch.append(Posting(self.fresh(), debit, other, amount, Reason.GRANT, "test"))
        self.post_both(batch)

    def post_both(self, batch: Sequence[Posting], *, charged: bool = False) -> None:
        self.both(
            lambda: services.post(batch, charged=charged),
            lambda: self.books.post(batch, charged=charged),
        )

    @rule(twice=st.booleans(), share=st.integers(0, 100))
    def close_epoch(self, twice: bool, share: int) -> None:
        self.epoch += 1
        fees = {code: self.books.unposted(code) for code in WALLETS if self.books.unposted(code)}
        code = epoch_code(self.epoch)
        batch = [
            Posting(self.fresh(), wallet, code, amount, Reason.CHARGE)
            for wallet, amount in fees.items()
        ]
        for _ in range(1 + twice):
            self.post_both(batch, charged=True)
        total = sum(fees.values())
        part = total * share // 100
        owed = f"owed:{ADDRESS}:0x{'ab' * 32}"
        shared = [(owed, part, Reason.SHARE), ("treasury", total - part, Reason.REST)]
        self.post_both(
            [Posting(self.fresh(), code, to, left, why) for to, left, why in shared if left]
        )
        assert self.books.posted[code] == 0

    # --- holds ------------------------------------------------------------------------------

    @rule(
        asked=st.lists(st.tuples(accounts, amounts, picks), min_size=1, max_size=3),
    )
    def hold(self, asked: list[tuple[str, int, int]]) -> None:
        batch = []
        for debit, amount, pick in asked:
            credit = "chain" if debit != "chain" else "treasury"
            known = [each.request for each in self.books.holds.values()]
            if pick < 6 and known:
                again = known[pick % len(known)]
                changed = again.amount_base_units + (pick == 0)
                batch.append(
                    HoldRequest(
                        again.id, again.debit, again.credit, changed, again.reason, again.subject
                    )
                )
            else:
                batch.append(HoldRequest(self.fresh(), debit, credit, amount, Reason.ESCROW, "x"))
        self.both(lambda: services.hold(batch), lambda: self.books.hold(batch))

    @precondition(lambda self: self.books.holds)
    @rule(
        asked=st.lists(
            st.tuples(picks, st.none() | st.integers(1, 6), st.booleans(), picks),
            min_size=1,
            max_size=3,
        )
    )
    def settle(self, asked: list[tuple[int, int | None, bool, int]]) -> None:
        batch = []
        for pick, amount, rest, again in asked:
            known = list(self.books.settled_from) if again % 2 else list(self.books.transfers)
            transfer = known[again % len(known)] if again < 8 and known else self.fresh()
            hold = self.books.settled_from.get(transfer) if again % 3 else None
            batch.append(Settling(hold or self.a_hold(pick), transfer, amount, rest))
        if asked[0][0] == 63:
            batch.append(Settling(UUID(int=2**127), self.fresh()))
        self.both(lambda: services.settle(batch), lambda: self.books.settle(batch))

    @precondition(lambda self: self.books.holds)
    @rule(chosen=st.lists(picks, min_size=1, max_size=3), voided=st.booleans())
    def give_back(self, chosen: list[int], voided: bool) -> None:
        ids = [self.a_hold(pick) for pick in chosen]
        real = services.void if voided else services.release
        self.both(lambda: real(ids), lambda: self.books.give_back(ids))

    @rule(asked=st.tuples(wallets, st.integers(1, 9)))
    def hold_that_is_due(self, asked: tuple[str, int]) -> None:
        request = HoldRequest(
            self.fresh(), asked[0], "escrow:bounty", asked[1], Reason.ESCROW, "due", _LONG_AGO
        )
        if self.both(lambda: services.hold([request]), lambda: self.books.hold([request])):
            self.books.holds[request.id].due = True

    @rule()
    def expire_holds(self) -> None:
        self.both(holds.expire_due, self.books.expire_due)

    # --- leases -----------------------------------------------------------------------------

    @rule(wallet=wallets, fee=st.integers(1, 5), calls=st.integers(1, 4), waiting=st.integers(1, 6))
    def take(self, wallet: str, fee: int, calls: int, waiting: int) -> None:
        taken: list[UUID] = []

        def real() -> int:
            lease = self.database.run(
                leases.take_on(
                    self.database.opened,
                    wallet=address_of(wallet),
                    process="test",
                    fee_base_units=fee,
                    calls=calls,
                    waiting=waiting,
                    ttl_seconds=86_400,
                )
            )
            taken.append(lease.id)
            return lease.amount_base_units

        amount = self.both(real, lambda: self.books.take(wallet, fee, calls, waiting))
        if amount is not None:
            self.books.leases[taken[0]] = Lent(wallet, amount)

    @rule(
        asked=st.lists(st.tuples(picks, st.integers(1, 4)), min_size=1, max_size=4),
        rolled_back=st.booleans(),
    )
    def charge(self, asked: list[tuple[int, int]], rolled_back: bool) -> None:
        charges = [(self.a_lease(pick), amount) for pick, amount in asked]

        async def real() -> set[UUID]:
            database = self.database.opened
            async with database.transaction(force_rollback=rolled_back):
                return await leases.charge_on(database, charges)

        if rolled_back:
            self.database.run(real())
        else:
            self.both(lambda: self.database.run(real()), lambda: self.books.charge(charges))

    @rule(chosen=st.lists(picks, min_size=1, max_size=3))
    def end_leases(self, chosen: list[int]) -> None:
        ids = [self.a_lease(pick) for pick in chosen]
        self.database.run(leases.end_on(self.database.opened, ids))
        self.books.end(ids)
        self.ended += ids

    @precondition(lambda self: self.books.leases)
    @rule(pick=picks)
    def let_a_lease_expire(self, pick: int) -> None:
        chosen = list(self.books.leases)[pick % len(self.books.leases)]
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE ledger_lease SET expires_at = '2020-01-01' WHERE id = %s", [chosen]
            )
        self.books.leases[chosen].dead = True

    @rule()
    def sweep(self) -> None:
        self.both(leases.sweep, self.books.sweep)

    @rule(wallet=wallets, limit=st.none() | st.integers(0, 80))
    def limit_the_day(self, wallet: str, limit: int | None) -> None:
        services.set_day_limit(address_of(wallet), limit)
        self.books.day_limit[wallet] = limit

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        Ledger.steps += 1
        books = self.books
        rows = Account.objects.values_list(
            "code",
            "posted_base_units",
            "held_base_units",
            "leased_base_units",
            "charged_base_units",
        )
        assert {code: tuple(map(int, kept)) for code, *kept in rows} == {
            code: (books.posted[code], books.held(code), books.leased(code), books.charged(code))
            for code in books.posted
        }
        assert sum(books.posted.values()) == 0
        for code in WALLETS:
            back = books.dead(code)
            dead = [each for each in books.leases.values() if each.wallet == code and each.dead]
            under_way = books.leased(code) - books.spent(code) - back
            assert queries.balance_of(address_of(code)) == queries.Balance(
                books.balance(code),
                books.available(code) + sum(each.amount - each.spent for each in dead),
                books.held(code),
                under_way,
                books.unposted(code),
                books.day_limit.get(code),
                books.day_used[code] - back,
            )
        if Ledger.steps % COMPARED_EVERY == 0:
            self.teardown()

    def teardown(self) -> None:
        unposted = {address_of(code): self.books.unposted(code) for code in WALLETS}
        assert list(reconciliation.differences(unposted)) == []


@pytest.fixture
def beside_the_model(transactional_db: None) -> Iterator[None]:
    Ledger.database = Database()
    Ledger.steps = 0
    yield
    Ledger.database.close()


def run(*, runs: int, steps: int = STEPS_A_RUN, **given: Any) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Ledger,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **given,
        ),
    )


@pytest.mark.usefixtures("beside_the_model")
def test_the_ledger_does_what_the_model_does() -> None:
    run(runs=30, steps=30, derandomize=True)
    assert Ledger.steps > 30


@pytest.mark.drill
@pytest.mark.usefixtures("beside_the_model")
def test_the_ledger_does_what_the_model_does_for_100_000_steps(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = int(os.environ.get("LEDGER_SEED") or SEED)
    began = time.monotonic()

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nledger beside its model: {text}\n")

    while Ledger.steps < STEPS:
        say(f"seed {chosen}, {Ledger.steps:,} steps done")
        seed(chosen)(Ledger)
        run(runs=min(200, 1 + (STEPS - Ledger.steps) // STEPS_A_RUN))
        chosen += 1
    say(f"{Ledger.steps:,} steps in {time.monotonic() - began:.0f} s")


@pytest.mark.usefixtures("beside_the_model")
def test_a_ledger_that_forgets_to_hold_is_told_from_the_model() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_hold DISABLE TRIGGER holds_held")
    try:
        with pytest.raises((AssertionError, BaseExceptionGroup, pytest.fail.Exception)):
            run(runs=30, derandomize=True, report_multiple_bugs=False, phases=_NO_SHRINKING)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE ledger_hold ENABLE TRIGGER holds_held")
