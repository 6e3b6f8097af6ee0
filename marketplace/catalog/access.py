"""The access policy of a model and its allow list: who stands on it, changes, history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import BooleanField, Case, Max, Q, QuerySet, Value, When
from django.utils import timezone

from inframind.identity import changes
from inframind.identity.authority import admit, require
from inframind.identity.caller import Caller, insufficient_scope
from inframind.identity.models import Wallet
from inframind.lib.access import Role, scope_of
from inframind.lib.addresses import checksum_address
from inframind.lib.problem import Problem, Violation, not_found
from marketplace.catalog import packagekeys
from marketplace.catalog.models import (
    AccessChange,
    AccessPolicy,
    AllowEntry,
    Model,
    Version,
    WalletGroup,
)
from marketplace.catalog.reasons import required_reason, unusable
from marketplace.catalog.serving import unknown, well_formed
from marketplace.catalog.visibility import kind_of, may_see, roles_on, running

MAX_ENTRIES: Final = 10_000
HISTORY_LENGTH: Final = 500
Kind = AccessChange.Kind


@dataclass(frozen=True)
class Guest:
    """A line that goes on a list: a wallet's address, or the name of a group of the owner."""

    address: str = ""
    group: str = ""
    expires_at: datetime | None = None
    note: str = ""
    line: int | None = None  # where it stood in a file


@dataclass(frozen=True)
class Outcome:
    """How many lines were new, changed, and as they stood."""

    added: int
    changed: int
    unchanged: int


@dataclass(frozen=True)
class HistoryLine:
    """One change of the policy, the list, or a group that stands on the list."""

    at: datetime
    what: str
    who: str
    by: str
    note: str
    expires_at: datetime | None = None
    group: str = ""  # that the wallet joined or left


def managed(name: str, caller: Caller | None, permission: str = "model.manage") -> Model:
    """The model, if the caller may do this with it.

    Raises ``Problem``: 401, 403, and the 404 of an unknown name for a private model of another. A
    token for its wallet's own models is told 403 for all others, known or not.
    """
    admit(caller, permission, name=name)
    model = None
    if well_formed(name):
        found = Model.objects.filter(may_see(caller), pk=name)
        model = found.select_related("owner", "current").first()
    roles = roles_on(caller, model) if model is not None else frozenset()
    if caller is not None and caller.owned_only and Role.OWNER not in roles:
        raise insufficient_scope(scope_of(permission) or "", name)
    if model is None:
        raise unknown(name)
    require(
        caller,
        permission,
        kind_of(model),
        roles=roles,
        otherwise=_not_yours(model.name),
        seen=True,
    )
    return model


def entries_of(model: Model) -> QuerySet[AllowEntry]:
    """The list in the order of its lines, each with its group and whether its time is over."""
    return (
        AllowEntry.objects.filter(model=model)
        .select_related("group")
        .annotate(
            expired=Case(
                When(running(), then=Value(False)),
                default=Value(True),
                output_field=BooleanField(),
            )
        )
    )


def tag_of(model: Model) -> str:
    """What stands for policy and list as they are now; every change makes another one."""
    policy = AccessPolicy.objects.filter(model=model).aggregate(last=Max("id"))["last"]
    change = AccessChange.objects.filter(model=model).aggregate(last=Max("id"))["last"]
    text = f"{model.pk}:{policy}:{change}".encode()
    return hashlib.sha256(text).hexdigest()[:24]


def history(model: Model, *, length: int = HISTORY_LENGTH) -> list[HistoryLine]:
    """What was changed, the newest first, membership of groups on the list included."""
    changes = AccessChange.objects.filter(model=model)
    groups = changes.exclude(group_name="").values("group_name")
    members = Q(model__isnull=True, owner=model.owner_id, group_name__in=groups)
    lines = [
        HistoryLine(
            at=each.created_at,
            what=each.kind,
            who=_who(each),
            by=each.changed_by_id,
            note=each.note,
            expires_at=each.expires_at,
            group=each.group_name if each.model_id is None else "",
        )
        for each in AccessChange.objects.filter(Q(model=model) | members)[:length]
    ]
    lines += [
        HistoryLine(
            at=each.created_at,
            what="policy",
            who=policy_words(each),
            by=each.changed_by_id,
            note=each.reason,
        )
        for each in AccessPolicy.objects.filter(model=model)[:length]
    ]
    return sorted(lines, key=lambda line: line.at, reverse=True)[:length]


def policy_words(policy: AccessPolicy | Model) -> str:
    """Who may see and who may call, in a sentence."""
    if not policy.public:
        return "Private: only its owner and the allow list see and call it."
    if policy.restricted:
        return "Listed for everybody; only its owner and the allow list call it."
    if policy.auth_required:
        return "Listed for everybody; everybody with a token calls it."
    return "Listed for everybody, and everybody calls it."


def readable_versions(model: Model) -> int:
    """How many versions are stored as they were published, for whoever has their CID to read."""
    return Version.objects.filter(model=model, package_key__isnull=True).count()


def sealed_versions(model: Model) -> int:
    """How many versions the key opens that becomes everybody's if the model turns public."""
    return Version.objects.filter(
        model=model, package_key__isnull=False, package_key__disclosed_at__isnull=True
    ).count()


def readable_words(count: int) -> str:
    """The plain truth about versions from the time when a model was public; empty for none."""
    if not count:
        return ""
    which = "1 version is" if count == 1 else f"{count} versions are"
    return (
        f"{which} stored readable, as published while the model was public: whoever has the CID "
        "can still read it. Versions published from now on are sealed."
    )


@transaction.atomic
def change_access(
    *,
    model: Model,
    reason: str,
    changed_by: Wallet,
    public: bool | None = None,
    auth_required: bool | None = None,
    restricted: bool | None = None,
    expected_tag: str = "",
) -> AccessPolicy:
    """Puts a new access policy in force and keeps the old one.

    What is None stays, or follows: private is restricted, restricted needs a token. Raises
    ``Problem``: 422, and 412 where ``expected_tag`` is not what stands there now.
    """
    locked = _locked(model)
    if expected_tag and expected_tag != tag_of(locked):
        raise Problem(
            "changed-meanwhile",
            f"The access of {locked.name} was changed since you read it.",
            status=412,
            remedy="Read it again, and send the change with the new ETag.",
        )
    # Of the row as it is under the lock: else a half of an older policy could come back.
    public = locked.public if public is None else public
    if restricted is None:
        restricted = locked.restricted or not public
    if auth_required is None:
        auth_required = locked.auth_required or restricted
    if not public and not restricted:
        raise unusable("A private model is called by its allow list only.")
    if restricted and not auth_required:
        raise unusable("A model that only some may call needs auth_required.")
    policy = AccessPolicy.objects.create(
        model=locked,
        public=public,
        auth_required=auth_required,
        restricted=restricted,
        reason=required_reason(reason),
        changed_by=changed_by,
    )
    locked.public, locked.auth_required, locked.restricted = public, auth_required, restricted
    locked.save(update_fields=["public", "auth_required", "restricted"])
    if public:
        # What everybody may read needs no secret: its downloads are opened by anybody.
        packagekeys.disclose(model=locked)
    return policy


@transaction.atomic
def allow(*, model: Model, guests: Sequence[Guest], changed_by: Wallet) -> Outcome:
    """Puts wallets and groups on the list; who stands there gets the new end and note.

    Raises ``Problem`` 422, each bad line with its place, and 409 for more than the list holds.
    """
    locked = _locked(model)
    groups = _groups(locked, guests)
    wanted = _usable(guests, frozenset(groups))
    standing = {
        (entry.address, entry.group.name if entry.group else ""): entry
        for entry in AllowEntry.objects.filter(model=locked).select_related("group")
    }
    new = [guest for key, guest in wanted.items() if key not in standing]
    if len(standing) + len(new) > MAX_ENTRIES:
        raise Problem(
            "list-full",
            f"An allow list has at most {MAX_ENTRIES} entries; this one would have "
            f"{len(standing) + len(new)}.",
            status=409,
            remedy="Remove entries that have expired, or let wallets in as a group.",
        )
    AllowEntry.objects.bulk_create(
        [
            AllowEntry(
                model=locked,
                address=guest.address,
                group_id=groups[guest.group] if guest.group else None,
                expires_at=guest.expires_at,
                note=guest.note,
            )
            for guest in new
        ],
        batch_size=1000,
    )
    changed = []
    for key, guest in wanted.items():
        entry = standing.get(key)
        if entry is None or (entry.expires_at, entry.note) == (guest.expires_at, guest.note):
            continue
        entry.expires_at, entry.note = guest.expires_at, guest.note
        changed.append((entry, guest))
    AllowEntry.objects.bulk_update(
        [entry for entry, _ in changed], ["expires_at", "note"], batch_size=1000
    )
    changes.model_changed(locked.pk)
    _note(locked, Kind.ALLOWED, new, changed_by)
    _note(locked, Kind.CHANGED, [guest for _, guest in changed], changed_by)
    return Outcome(len(new), len(changed), len(wanted) - len(new) - len(changed))


@transaction.atomic
def remove(*, model: Model, who: str, changed_by: Wallet) -> None:
    """Takes ``0x…`` or ``@group`` off the list, from the next call on. Raises ``Problem``."""
    locked = _locked(model)
    if who.startswith("@"):
        guest = Guest(group=who[1:].replace("\0", ""))
        found = AllowEntry.objects.filter(model=locked, group__name=guest.group)
    else:
        guest = Guest(address=_address(who))
        found = AllowEntry.objects.filter(model=locked, address=guest.address)
    if not found.delete()[0]:
        raise not_found(
            f"{who[:60]} on the list of {locked.name}",
            f"See who is on it: infra model access show {locked.name}",
        )
    _note(locked, Kind.REMOVED, [guest], changed_by)


def seed(*, model: Model, addresses: Iterable[str], changed_by: Wallet) -> None:
    """The list that a new model begins with."""
    guests = [Guest(address=address, note="") for address in dict.fromkeys(addresses)]
    if guests:
        allow(model=model, guests=guests, changed_by=changed_by)


def _locked(model: Model) -> Model:
    return Model.objects.select_for_update(no_key=True).get(pk=model.pk)


def _groups(model: Model, guests: Sequence[Guest]) -> dict[str, int]:
    """The owner's groups by name, held where a guest is one: none is deleted meanwhile."""
    if not any(guest.group for guest in guests):
        return {}
    groups = WalletGroup.objects.select_for_update(no_key=True).filter(owner=model.owner_id)
    return dict(groups.order_by("pk").values_list("name", "pk"))


def _usable(guests: Sequence[Guest], groups: frozenset[str]) -> dict[tuple[str, str], Guest]:
    """The lines as they are kept; of a wallet named twice, the last line counts."""
    now = timezone.now()
    wanted: dict[tuple[str, str], Guest] = {}
    wrong: list[Violation] = []
    for place, guest in enumerate(guests):
        try:
            kept = _kept(guest, groups, now)
        except ValueError as error:
            wrong.append(Violation(f"/entries/{place}", str(error), line=guest.line))
        else:
            wanted[kept.address, kept.group] = kept
    if wrong:
        raise Problem(
            "invalid-request",
            f"{len(wrong)} of {len(guests)} entries cannot be used; nothing was changed.",
            status=422,
            violations=tuple(wrong[:100]),
            remedy="Correct them and send the whole list again.",
        )
    return wanted


def _kept(guest: Guest, groups: frozenset[str], now: datetime) -> Guest:
    if bool(guest.address) == bool(guest.group):
        raise ValueError("An entry names a wallet's address or a group: exactly one of them.")
    if guest.expires_at is not None and guest.expires_at <= now:
        raise ValueError("Its end has passed already.")
    name = guest.group.removeprefix("@")
    if guest.group and name not in groups:
        raise ValueError(f"You have no group called {name[:40]!r}.")
    address = checksum_address(guest.address) if guest.address else ""
    return Guest(address, name, guest.expires_at, clean_note(guest.note))


def clean_note(text: str) -> str:
    """A note as it is kept."""
    return text.replace("\0", "").strip()[:100]


def _address(text: str) -> str:
    try:
        return checksum_address(text)
    except ValueError as error:
        raise unusable(str(error)) from None


def _note(model: Model, kind: AccessChange.Kind, guests: Iterable[Guest], by: Wallet) -> None:
    AccessChange.objects.bulk_create(
        [
            AccessChange(
                model=model,
                owner_id=model.owner_id,
                kind=kind,
                address=guest.address,
                group_name=guest.group,
                expires_at=guest.expires_at,
                note=guest.note,
                changed_by=by,
            )
            for guest in guests
        ],
        batch_size=1000,
    )


def _who(change: AccessChange) -> str:
    return change.address or f"@{change.group_name}"


def _not_yours(name: str) -> Problem:
    return Problem(
        "not-yours",
        f"{name} belongs to another wallet.",
        status=403,
        remedy="Use its owner's wallet, or a token of it that may do this.",
    )
