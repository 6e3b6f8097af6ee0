"""Groups: their names, their limits, their members, and what their owner alone may do with them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem
from marketplace.catalog import groups, services
from marketplace.catalog.access import Guest, Outcome
from marketplace.catalog.groups import Member
from marketplace.catalog.models import AccessChange, AllowEntry, GroupMember, Model, WalletGroup
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import PRIVATE, STRANGER

GUEST = "0x4444444444444444444444444444444444444444"


@pytest.fixture
def private(publish: Publish) -> Model:
    return publish(PRIVATE).model


@pytest.fixture
def partners(owner: Wallet) -> WalletGroup:
    return services.create_group(owner=owner, name="partners")


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "x" * 41, "a\0b", "@", "ä"])
def test_a_name_that_is_none_is_refused(owner: Wallet, name: str) -> None:
    with pytest.raises(Problem) as caught:
        services.create_group(owner=owner, name=name)
    assert (caught.value.status, WalletGroup.objects.count()) == (422, 0)


def test_a_name_is_taken_once_an_owner(
    partners: WalletGroup, owner: Wallet, stranger: Wallet
) -> None:
    with pytest.raises(Problem) as caught:
        services.create_group(owner=owner, name="@partners")
    assert caught.value.status == 409
    assert services.create_group(owner=stranger, name="partners") != partners


def test_groups_and_members_have_limits(
    partners: WalletGroup, owner: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_GROUPS", 1)
    monkeypatch.setattr(groups, "MAX_MEMBERS", 2)
    with pytest.raises(Problem) as caught:
        services.create_group(owner=owner, name="others")
    assert (caught.value.code, WalletGroup.objects.count()) == ("quota-exceeded", 1)
    many = [Member(f"0x{number:040x}") for number in range(1, 4)]
    with pytest.raises(Problem) as caught:
        services.add_members(owner=owner, name="partners", members=many)
    assert (caught.value.code, GroupMember.objects.count()) == ("group-full", 0)
    services.add_members(owner=owner, name="partners", members=many[:2])


def test_members_are_added_once_and_changed(partners: WalletGroup, owner: Wallet) -> None:
    add, later = services.add_members, timezone.now() + timedelta(days=1)
    two = [Member(GUEST), Member(STRANGER, note=" Ben\0 ")]
    assert add(owner=owner, name="partners", members=two) == Outcome(2, 0, 0)
    assert add(owner=owner, name="@partners", members=two) == Outcome(0, 0, 2)
    changed = add(owner=owner, name="partners", members=[Member(GUEST.lower(), later, "Ada")])
    assert changed == Outcome(0, 1, 0)
    assert [(each.address, each.note) for each in groups.members_of(partners)] == [
        (GUEST, "Ada"),
        (STRANGER, "Ben"),
    ]
    GroupMember.objects.filter(address=GUEST).update(expires_at=Now())
    assert [each.expired for each in groups.members_of(partners)] == [True, False]  # type: ignore[attr-defined]


def test_one_bad_member_and_nobody_is_added(partners: WalletGroup, owner: Wallet) -> None:
    past = timezone.now() - timedelta(seconds=1)
    with pytest.raises(Problem) as caught:
        services.add_members(
            owner=owner,
            name="partners",
            members=[Member(GUEST), Member("0x1"), Member(GUEST, past)],
        )
    assert [each.pointer for each in caught.value.violations] == ["/members/1", "/members/2"]
    assert not GroupMember.objects.exists()


def test_a_group_is_its_owner_s_alone(
    partners: WalletGroup, owner: Wallet, stranger: Wallet, publish: Publish
) -> None:
    theirs = publish(PRIVATE.replace("echo-text", "their-own"), by=stranger).model
    for act in (
        lambda: services.add_members(owner=stranger, name="partners", members=[Member(GUEST)]),
        lambda: services.remove_member(owner=stranger, name="partners", address=GUEST),
        lambda: services.delete_group(owner=stranger, name="partners"),
        lambda: groups.group_of(stranger.pk, "partners"),
        lambda: services.allow(model=theirs, guests=[Guest(group="partners")], changed_by=stranger),
    ):
        with pytest.raises(Problem) as caught:
            act()
        assert caught.value.status in (404, 422)
    assert (WalletGroup.objects.count(), AllowEntry.objects.count()) == (1, 0)


def test_what_is_done_to_a_group_stays_in_the_history(
    private: Model, partners: WalletGroup, owner: Wallet
) -> None:
    services.allow(model=private, guests=[Guest(group="partners")], changed_by=owner)
    services.add_members(owner=owner, name="partners", members=[Member(GUEST), Member(STRANGER)])
    services.remove_member(owner=owner, name="partners", address=GUEST)
    [found] = groups.groups_of(owner.pk)
    assert (found.member_count, found.list_count, groups.lists_of(found)) == (1, 1, ["echo-text"])  # type: ignore[attr-defined]
    services.delete_group(owner=owner, name="partners")
    assert [
        (each.kind, each.model_id, each.address) for each in AccessChange.objects.order_by("id")
    ] == [
        ("allowed", "echo-text", ""),
        ("joined", None, GUEST),
        ("joined", None, STRANGER),
        ("left", None, GUEST),
        ("removed", "echo-text", ""),
        ("left", None, STRANGER),
    ]
    assert not WalletGroup.objects.exists()
