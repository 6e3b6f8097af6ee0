"""Groups of wallets that an owner lets in together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import BooleanField, Case, Count, QuerySet, Value, When
from django.utils import timezone

from inframind.identity import changes
from inframind.identity.models import Wallet
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem, Violation, not_found
from marketplace.catalog.access import Outcome, clean_note
from marketplace.catalog.models import AccessChange, AllowEntry, GroupMember, Model, WalletGroup
from marketplace.catalog.reasons import unusable
from marketplace.catalog.visibility import running

MAX_GROUPS: Final = 100
MAX_MEMBERS: Final = 1_000
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True)
class Member:
    """A wallet that goes into a group."""

    address: str
    expires_at: datetime | None = None
    note: str = ""


def groups_of(owner: str) -> QuerySet[WalletGroup]:
    """The wallet's groups by name, each with how many members and lists it has."""
    return WalletGroup.objects.filter(owner=owner).annotate(
        member_count=Count("members", distinct=True), list_count=Count("entries", distinct=True)
    )


def group_of(owner: str, name: str) -> WalletGroup:
    """One group of the wallet. Raises a 404 ``Problem``."""
    group = groups_of(owner).filter(name=name.replace("\0", "")).first()
    if group is None:
        raise not_found(f"group called {name[:40]}")
    return group


def members_of(group: WalletGroup) -> QuerySet[GroupMember]:
    """Its members as they came, each with whether its time is over."""
    return GroupMember.objects.filter(group=group).annotate(
        expired=Case(
            When(running(), then=Value(False)), default=Value(True), output_field=BooleanField()
        )
    )


def lists_of(group: WalletGroup) -> list[str]:
    """Names of the models that let the group in."""
    return list(
        Model.objects.filter(allow_entries__group=group).order_by("pk").values_list("pk", flat=True)
    )


@transaction.atomic
def create_group(*, owner: Wallet, name: str) -> WalletGroup:
    """A new, empty group. Raises ``Problem`` 409 for a name in use, or one group too many, 422."""
    name = name.strip().removeprefix("@")
    if _NAME.fullmatch(name) is None:
        raise unusable(
            f"{name[:40]!r} is not a group's name.",
            "Use up to 40 lower-case letters, digits and hyphens, like partners.",
        )
    # One at a time, so that the limit is exact.
    Wallet.objects.select_for_update(no_key=True).get(pk=owner.pk)
    mine = WalletGroup.objects.filter(owner=owner)
    if mine.filter(name=name).exists():
        raise Problem("group-exists", f"You have a group called {name}.", status=409)
    if mine.count() >= MAX_GROUPS:
        raise Problem(
            "quota-exceeded",
            f"A wallet has at most {MAX_GROUPS} groups.",
            status=409,
            remedy="Delete one that you no longer need.",
        )
    return WalletGroup.objects.create(owner=owner, name=name)


@transaction.atomic
def delete_group(*, owner: Wallet, name: str) -> None:
    """Ends a group; whoever was let in by it alone is out at once. Raises a 404 ``Problem``."""
    group = _locked(owner, name)
    entries = AllowEntry.objects.filter(group=group).order_by("model")
    AccessChange.objects.bulk_create(
        AccessChange(
            model_id=entry.model_id,
            owner=owner,
            kind=AccessChange.Kind.REMOVED,
            group_name=group.name,
            note="The group was deleted.",
            changed_by=owner,
        )
        for entry in entries
    )
    _note(group, AccessChange.Kind.LEFT, map(_as_member, group.members.all()), owner)
    group.delete()


@transaction.atomic
def add_members(*, owner: Wallet, name: str, members: Sequence[Member]) -> Outcome:
    """Puts wallets into a group; who is in it gets the new end and note.

    Raises ``Problem`` 404, 422 with the place of each bad line, 409 for more than a group holds.
    """
    group = _locked(owner, name)
    wanted = _usable(members)
    standing = {each.address: each for each in GroupMember.objects.filter(group=group)}
    new = [member for address, member in wanted.items() if address not in standing]
    if len(standing) + len(new) > MAX_MEMBERS:
        raise Problem(
            "group-full",
            f"A group has at most {MAX_MEMBERS} members; this one would have "
            f"{len(standing) + len(new)}.",
            status=409,
            remedy="Remove some, or make another group.",
        )
    GroupMember.objects.bulk_create(
        GroupMember(group=group, address=each.address, expires_at=each.expires_at, note=each.note)
        for each in new
    )
    changed = []
    for address, member in wanted.items():
        row = standing.get(address)
        if row is None or (row.expires_at, row.note) == (member.expires_at, member.note):
            continue
        row.expires_at, row.note = member.expires_at, member.note
        changed.append((row, member))
    GroupMember.objects.bulk_update([row for row, _ in changed], ["expires_at", "note"])
    for row, _ in changed:
        changes.wallet_changed(row.address)
    _note(group, AccessChange.Kind.JOINED, new, owner)
    _note(group, AccessChange.Kind.CHANGED, [member for _, member in changed], owner)
    return Outcome(len(new), len(changed), len(wanted) - len(new) - len(changed))


@transaction.atomic
def remove_member(*, owner: Wallet, name: str, address: str) -> None:
    """Takes a wallet out of a group, from the next call on. Raises ``Problem`` 404, 422."""
    group = _locked(owner, name)
    try:
        address = checksum_address(address)
    except ValueError as error:
        raise unusable(str(error)) from None
    if not GroupMember.objects.filter(group=group, address=address).delete()[0]:
        raise not_found(f"{address} in the group {group.name}")
    _note(group, AccessChange.Kind.LEFT, [Member(address)], owner)


def _locked(owner: Wallet, name: str) -> WalletGroup:
    found = WalletGroup.objects.select_for_update(no_key=True)
    group = found.filter(owner=owner, name=name.removeprefix("@").replace("\0", "")).first()
    if group is None:
        raise not_found(f"group called {name[:40]}")
    return group


def _usable(members: Sequence[Member]) -> dict[str, Member]:
    wanted: dict[str, Member] = {}
    wrong: list[Violation] = []
    now = timezone.now()
    for place, member in enumerate(members):
        try:
            address = checksum_address(member.address)
            if member.expires_at is not None and member.expires_at <= now:
                raise ValueError("Its end has passed already.")
        except ValueError as error:
            wrong.append(Violation(f"/members/{place}", str(error)))
        else:
            wanted[address] = Member(address, member.expires_at, clean_note(member.note))
    if wrong:
        raise Problem(
            "invalid-request",
            f"{len(wrong)} of {len(members)} members cannot be used; nothing was changed.",
            status=422,
            violations=tuple(wrong[:100]),
            remedy="Correct them and send the whole list again.",
        )
    return wanted


def _as_member(row: GroupMember) -> Member:
    return Member(row.address, row.expires_at, row.note)


def _note(
    group: WalletGroup, kind: AccessChange.Kind, members: Iterable[Member], by: Wallet
) -> None:
    AccessChange.objects.bulk_create(
        AccessChange(
            owner_id=group.owner_id,
            kind=kind,
            address=member.address,
            group_name=group.name,
            expires_at=member.expires_at,
            note=member.note,
            changed_by=by,
        )
        for member in members
    )
