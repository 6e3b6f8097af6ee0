"""The allow list: who is let in, until when, and what is remembered of every change."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.identity.queries import caller_of_wallet
from inframind.lib.access import Kind, Role
from inframind.lib.problem import Problem
from marketplace.catalog import access, groups, queries, services, visibility
from marketplace.catalog.access import Guest
from marketplace.catalog.models import (
    AccessChange,
    AccessPolicy,
    AllowEntry,
    GroupMember,
    Model,
    WalletGroup,
)
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST, OWNER, PRIVATE, STAFF, STRANGER

GUEST = "0x4444444444444444444444444444444444444444"


def seen(viewer: str | Caller | None, name: str = "echo-text") -> tuple[bool, int, int]:
    """Whether the viewer finds it in lists; what reading it by name and for a call come to."""
    caller = Caller(viewer) if isinstance(viewer, str) else viewer
    listed = name in [m.name for m in queries.search(queries.SearchRequest(), viewer=caller).models]
    found = []
    for read in (queries.get_version, queries.servable):
        try:
            read(name, None, viewer=caller)
            found.append(200)
        except Problem as problem:
            found.append(problem.status)
    return listed, found[0], found[1]


ALL, NONE = (True, 200, 200), (False, 404, 404)


@pytest.fixture
def private(activated: Publish) -> Model:
    return activated(PRIVATE).model


def test_whoever_is_on_the_list_sees_it_and_nobody_else(private: Model, owner: Wallet) -> None:
    assert (seen(OWNER), seen(GUEST), seen(None)) == (ALL, NONE, NONE)
    services.allow(model=private, guests=[Guest(GUEST.upper().replace("X", "x"))], changed_by=owner)
    assert (seen(GUEST), seen(STRANGER), seen(None)) == (ALL, NONE, NONE)
    services.remove(model=private, who=GUEST, changed_by=owner)
    assert seen(GUEST) == NONE


def test_an_entry_ends_by_the_database_s_clock(private: Model, owner: Wallet) -> None:
    later = timezone.now() + timedelta(minutes=1)
    services.allow(model=private, guests=[Guest(GUEST, expires_at=later)], changed_by=owner)
    assert seen(GUEST) == ALL
    AllowEntry.objects.update(expires_at=Now())
    assert seen(GUEST) == NONE
    assert [entry.expired for entry in access.entries_of(private)] == [True]  # type: ignore[attr-defined]


def test_a_group_lets_its_members_in_while_both_last(private: Model, owner: Wallet) -> None:
    services.create_group(owner=owner, name="partners")
    services.add_members(owner=owner, name="partners", members=[groups.Member(GUEST)])
    assert seen(GUEST) == NONE
    services.allow(model=private, guests=[Guest(group="@partners")], changed_by=owner)
    assert seen(GUEST) == ALL
    GroupMember.objects.update(expires_at=Now())
    assert seen(GUEST) == NONE
    GroupMember.objects.update(expires_at=None)
    AllowEntry.objects.update(expires_at=Now())
    assert seen(GUEST) == NONE
    AllowEntry.objects.update(expires_at=None)
    services.remove_member(owner=owner, name="partners", address=GUEST)
    assert seen(GUEST) == NONE
    services.add_members(owner=owner, name="partners", members=[groups.Member(GUEST)])
    services.delete_group(owner=owner, name="partners")
    assert (seen(GUEST), AllowEntry.objects.count()) == (NONE, 0)


def test_a_token_for_other_models_or_for_own_ones_sees_as_a_stranger(
    private: Model, owner: Wallet
) -> None:
    services.allow(model=private, guests=[Guest(GUEST)], changed_by=owner)
    assert seen(Caller(GUEST, names=frozenset({"echo-text"}))) == ALL
    assert seen(Caller(GUEST, names=frozenset({"other-one"}))) == NONE
    assert seen(Caller(GUEST, owned_only=True)) == NONE
    assert seen(Caller(OWNER, owned_only=True)) == ALL
    assert seen(Caller(OWNER, names=frozenset({"other-one"}))) == NONE


def test_outside_the_admin_portal_the_staff_see_no_more_than_others(
    private: Model, staff: Wallet
) -> None:
    assert seen(caller_of_wallet(STAFF)) == NONE


def test_a_listed_model_is_seen_by_all_and_says_who_may_call(
    activated: Publish, owner: Wallet
) -> None:
    model = activated().model
    services.change_access(
        model=model, public=True, auth_required=True, restricted=True, reason="x", changed_by=owner
    )
    services.allow(model=model, guests=[Guest(GUEST)], changed_by=owner)
    roles = {
        viewer: queries.servable("echo-text", None, viewer=Caller(viewer)).viewer_roles
        for viewer in (OWNER, GUEST, STRANGER)
    }
    assert roles == {
        OWNER: frozenset({Role.OWNER}),
        GUEST: frozenset({Role.ALLOWED}),
        STRANGER: frozenset(),
    }
    assert queries.servable("echo-text", None, viewer=None).kind is Kind.LISTED_MODEL
    model.refresh_from_db()
    for viewer, expected in roles.items():
        assert visibility.roles_on(Caller(viewer), model) == expected


def test_twice_is_once_and_a_new_end_is_a_change(private: Model, owner: Wallet) -> None:
    guests = [Guest(GUEST), Guest(STRANGER, note="ours")]
    add = services.allow
    assert add(model=private, guests=guests, changed_by=owner) == access.Outcome(2, 0, 0)
    assert add(model=private, guests=guests, changed_by=owner) == access.Outcome(0, 0, 2)
    later = timezone.now() + timedelta(days=1)
    guests = [Guest(GUEST, expires_at=later), Guest(GUEST.lower(), expires_at=later, note="b")]
    assert add(model=private, guests=guests, changed_by=owner) == access.Outcome(0, 1, 0)
    kinds = [(each.kind, each.address) for each in AccessChange.objects.order_by("id")]
    assert kinds == [("allowed", GUEST), ("allowed", STRANGER), ("changed", GUEST)]


def test_one_bad_line_and_nothing_is_changed(private: Model, owner: Wallet) -> None:
    past = timezone.now() - timedelta(seconds=1)
    bad = [Guest(GUEST), Guest("0x12"), Guest(group="nobody"), Guest(STRANGER, expires_at=past)]
    with pytest.raises(Problem) as caught:
        services.allow(model=private, guests=[*bad, Guest()], changed_by=owner)
    assert caught.value.status == 422
    assert [each.pointer for each in caught.value.violations] == [
        "/entries/1",
        "/entries/2",
        "/entries/3",
        "/entries/4",
    ]
    assert not AllowEntry.objects.exists()


def test_a_list_holds_so_many(
    private: Model, owner: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "MAX_ENTRIES", 2)
    guests = [Guest(f"0x{number:040x}") for number in range(1, 4)]
    with pytest.raises(Problem) as caught:
        services.allow(model=private, guests=guests, changed_by=owner)
    assert (caught.value.code, AllowEntry.objects.count()) == ("list-full", 0)
    services.allow(model=private, guests=guests[:2], changed_by=owner)
    services.allow(model=private, guests=guests[:2], changed_by=owner)


def test_what_is_not_on_the_list_cannot_be_removed(private: Model, owner: Wallet) -> None:
    for who, status in ((GUEST, 404), ("@nobody", 404), ("0x12", 422)):
        with pytest.raises(Problem) as caught:
            services.remove(model=private, who=who, changed_by=owner)
        assert caught.value.status == status


def test_history_tells_policy_list_and_groups_the_newest_first(
    private: Model, owner: Wallet
) -> None:
    services.create_group(owner=owner, name="partners")
    services.allow(model=private, guests=[Guest(group="partners", note="n")], changed_by=owner)
    services.add_members(owner=owner, name="partners", members=[groups.Member(GUEST)])
    services.remove(model=private, who="@partners", changed_by=owner)
    services.change_access(
        model=private,
        public=True,
        auth_required=False,
        restricted=False,
        reason="Open now",
        changed_by=owner,
    )
    assert [(line.what, line.who, line.by, line.note) for line in access.history(private)] == [
        ("policy", "Listed for everybody, and everybody calls it.", OWNER, "Open now"),
        ("removed", "@partners", OWNER, ""),
        ("joined", GUEST, OWNER, ""),
        ("allowed", "@partners", OWNER, "n"),
        (
            "policy",
            "Private: only its owner and the allow list see and call it.",
            OWNER,
            "manifest",
        ),
    ]


def test_history_cannot_be_rewritten(private: Model, owner: Wallet) -> None:
    services.allow(model=private, guests=[Guest(GUEST)], changed_by=owner)
    for rows in (AccessChange.objects.all(), AccessPolicy.objects.all()):
        for rewrite in (rows.delete, lambda rows=rows: rows.update(changed_by=owner)):
            with pytest.raises(DatabaseError, match="written once"), transaction.atomic():
                rewrite()
    assert (AccessChange.objects.count(), AccessPolicy.objects.count()) == (1, 1)


def test_a_change_made_on_an_older_reading_is_refused(private: Model, owner: Wallet) -> None:
    tag = access.tag_of(private)
    services.allow(model=private, guests=[Guest(GUEST)], changed_by=owner)

    def open_it(tag: str) -> None:
        services.change_access(
            model=private,
            public=True,
            auth_required=False,
            restricted=False,
            reason="x",
            changed_by=owner,
            expected_tag=tag,
        )

    with pytest.raises(Problem) as caught:
        open_it(tag)
    assert caught.value.status == 412
    open_it(access.tag_of(private))


def test_the_allow_list_of_a_manifest_stands_in_the_history(
    activated: Publish, owner: Wallet
) -> None:
    model = activated(MANIFEST + f"access: {{public: false, allow_list: ['{GUEST}']}}\n").model
    assert seen(GUEST) == ALL
    assert next((line.what, line.who) for line in access.history(model)) == ("allowed", GUEST)


def test_a_private_successor_is_named_to_its_owner_only(
    activated: Publish, publish: Publish, owner: Wallet
) -> None:
    old = activated()
    secret = activated(PRIVATE.replace("echo-text", "secret-one"))
    services.deprecate(version=old, successor=secret, sunset_at=None)
    for viewer, told in ((None, None), (Caller(STRANGER), None), (Caller(OWNER), secret)):
        assert queries.get_version("echo-text", None, viewer=viewer).successor == told
        number = queries.servable("echo-text", None, viewer=viewer).successor_number
        assert number == (f"{secret}" if told else None)


def plan_of(viewer: str) -> str:
    statement, parameters = (
        Model.objects.filter(visibility.may_see(Caller(viewer)), pk="echo-text")
        .values_list("pk")
        .query.sql_with_params()
    )
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {statement}", parameters)
        return "\n".join(row[0] for row in cursor.fetchall())


def test_a_long_list_is_never_walked(private: Model, owner: Wallet) -> None:
    addresses = [f"0x{number:040x}" for number in range(3000)]
    group = WalletGroup.objects.create(owner=owner, name="many")
    AllowEntry.objects.create(model=private, group=group)
    AllowEntry.objects.bulk_create(AllowEntry(model=private, address=each) for each in addresses)
    GroupMember.objects.bulk_create(GroupMember(group=group, address=each) for each in addresses)
    with connection.cursor() as cursor:
        # The planner goes by what it counted, and else counts when it pleases.
        cursor.execute("ANALYZE catalog_model, catalog_allowentry, catalog_groupmember")
    plan = plan_of(GUEST)
    assert "allow_entry_address" in plan
    assert "group_member_address" in plan
    assert "Seq Scan" not in plan


def test_what_a_change_leaves_out_is_what_stands_when_it_is_made(
    activated: Publish, owner: Wallet
) -> None:
    """Two changes at once: the one that came second does not bring a public model back."""
    read_before = activated().model
    services.change_access(
        model=Model.objects.get(pk=read_before.pk), public=False, reason="secret", changed_by=owner
    )
    assert read_before.public
    services.change_access(model=read_before, auth_required=True, reason="late", changed_by=owner)
    now = Model.objects.get(pk=read_before.pk)
    assert (now.public, now.restricted, now.auth_required) == (False, True, True)


@pytest.mark.django_db(transaction=True)
def test_a_group_deleted_while_it_is_let_in_is_refused_in_words(
    activated: Publish, owner: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = activated(PRIVATE).model
    services.create_group(owner=owner, name="acme")
    waits, outcome = threading.Event(), list[str]()

    def let_in() -> None:
        waits.set()
        try:
            services.allow(model=model, guests=[Guest(group="acme")], changed_by=owner)
            outcome.append("let in")
        except Problem as problem:
            outcome.append(problem.code)
        finally:
            connection.close()

    with transaction.atomic():
        groups.delete_group(owner=owner, name="acme")
        other = threading.Thread(target=let_in)
        other.start()
        waits.wait()
        time.sleep(0.3)
        assert outcome == []
    other.join()
    assert (outcome, AllowEntry.objects.count()) == (["invalid-request"], 0)
