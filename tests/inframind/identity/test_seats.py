"""Curators' seats: appointed, ended, and what the commands say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from inframind.identity import seats
from inframind.identity.models import Seat, Wallet
from inframind.identity.queries import caller_of_wallet
from inframind.lib.access import Role
from inframind.lib.problem import Problem

from .browsing import OTHER, OWNER

pytestmark = pytest.mark.django_db


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.objects.of(OWNER)


def is_curator(wallet: Wallet) -> bool:
    return Role.CURATOR in caller_of_wallet(wallet.pk).roles


def appoint(wallet: Wallet, **changes: object) -> Seat:
    wish = {"ends_at": None, "reason": "Knows the field.", "granted_by": None, **changes}
    return seats.appoint_curator(wallet=wallet, **wish)  # type: ignore[arg-type]


def test_a_seat_gives_the_powers_and_its_end_takes_them_at_once(wallet: Wallet) -> None:
    staff = Wallet.objects.of(OTHER)
    assert not is_curator(wallet)
    seat = appoint(wallet, granted_by=staff)
    assert is_curator(wallet)
    ended = seats.end_seat(seat=seat, reason="Asked to.", ended_by=staff)
    assert not is_curator(wallet)
    assert (ended.end_reason, ended.ended_by, Seat.objects.count()) == ("Asked to.", staff, 1)


def test_a_seat_ends_by_itself(wallet: Wallet) -> None:
    seat = appoint(wallet, ends_at=timezone.now() + timedelta(days=1))
    assert is_curator(wallet)
    past = timezone.now() - timedelta(hours=1)
    Seat.objects.filter(pk=seat.pk).update(begins_at=past - timedelta(days=1), ends_at=past)
    assert not is_curator(wallet)
    assert appoint(wallet).pk != seat.pk


def test_a_seat_that_has_not_begun_can_be_ended(wallet: Wallet) -> None:
    later = timezone.now() + timedelta(days=1)
    seat = Seat.objects.create(wallet=wallet, role="curator", begins_at=later, reason="Soon.")
    ended = seats.end_seat(seat=seat, reason="Changed our mind.", ended_by=None)
    assert ended.ends_at is not None
    assert ended.ends_at - later < timedelta(seconds=1)


def test_a_wallet_holds_one_seat(wallet: Wallet) -> None:
    appoint(wallet)
    with pytest.raises(Problem, match="already"):
        appoint(wallet)
    assert Seat.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"reason": " "},
        {"reason": "x" * 201},
        {"ends_at": timezone.now() - timedelta(seconds=1)},
    ],
)
def test_what_a_seat_cannot_be_is_refused(wallet: Wallet, change: dict[str, object]) -> None:
    with pytest.raises(Problem) as caught:
        appoint(wallet, **change)
    assert (caught.value.status, Seat.objects.count()) == (422, 0)


def test_a_seat_ends_once_and_for_a_reason(wallet: Wallet) -> None:
    seat = appoint(wallet)
    with pytest.raises(Problem):
        seats.end_seat(seat=seat, reason="", ended_by=None)
    first = seats.end_seat(seat=seat, reason="First.", ended_by=None)
    with pytest.raises(Problem):
        seats.end_seat(seat=seat, reason="Second.", ended_by=None)
    seat.refresh_from_db()
    assert (seat.end_reason, seat.ends_at) == ("First.", first.ends_at)


@pytest.mark.django_db(transaction=True)
def test_of_two_appointments_at_once_one_stands() -> None:
    wallet = Wallet.objects.of(OWNER)

    def try_it(_: int) -> bool:
        try:
            appoint(wallet)
        except Problem:
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(try_it, range(6))) == 1
    assert Seat.objects.count() == 1


def run(name: str, **options: object) -> str:
    out = StringIO()
    call_command(name, wallet=OWNER.lower(), stdout=out, **options)
    return out.getvalue()


def test_a_curator_is_seated_and_unseated_by_command() -> None:
    assert f"{OWNER} is a curator until" in run("seat_curator", days=30, reason="Elected.")
    wallet = Wallet.objects.get(pk=OWNER)
    assert is_curator(wallet)
    with pytest.raises(CommandError, match="already"):
        run("seat_curator", days=30, reason="Again.")
    assert "has ended" in run("seat_curator", end=True, reason="Left.")
    assert not is_curator(wallet)
    with pytest.raises(CommandError, match="holds no"):
        run("seat_curator", end=True, reason="Left.")


@pytest.mark.parametrize("days", [0, -1, 4_000_000])
def test_a_seat_is_held_for_a_number_of_days(days: int) -> None:
    with pytest.raises(CommandError, match="1 to 3660"):
        run("seat_curator", days=days, reason="Elected.")
    assert Seat.objects.count() == 0


def test_staff_are_made_and_unmade_by_command() -> None:
    assert run("grant_staff") == f"{OWNER} is staff.\n"
    assert Role.STAFF in caller_of_wallet(OWNER).roles
    assert run("grant_staff", revoke=True) == f"{OWNER} is not staff.\n"
    assert Role.STAFF not in caller_of_wallet(OWNER).roles
    with pytest.raises(CommandError, match="not a wallet address"):
        call_command("grant_staff", wallet="0x12")
