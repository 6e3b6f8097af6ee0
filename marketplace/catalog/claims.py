"""Claiming a name. A name that cannot be had is refused in one way, whatever the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from inframind.identity.models import Wallet
from inframind.lib import names
from inframind.lib.problem import Problem, Violation
from marketplace.catalog import access, attempts
from marketplace.catalog.manifestparts import Access
from marketplace.catalog.models import AccessPolicy, Attempt, Model

UNAVAILABLE: Final = "name-unavailable"


def require_available(*, publisher: Wallet, name: str) -> None:
    """Refuses a name that the wallet cannot have, before anything is stored.

    Whether a name is taken, private, a look-alike or reserved is told in one way, and so often an
    hour, exactly: each wallet asks one at a time. Raises ``Problem``: 409, 422, 429.
    """
    if not names.is_name(name):
        raise _malformed(name)
    with transaction.atomic():
        if _owns(publisher, name):
            return
        _require_room(publisher)
        _require_quota(publisher)
        taken = _is_taken(name)
        if taken:
            attempts.note(wallet=publisher, kind=Attempt.Kind.NAME_REFUSED)
    if taken:
        raise unavailable(name)


@contextmanager
def counting_refusals(publisher: Wallet) -> Iterator[None]:
    """Counts a name that was lost to another registrant at the last moment, too."""
    try:
        yield
    except Problem as problem:
        if problem.code == UNAVAILABLE:
            with transaction.atomic():
                _require_room(publisher)
                attempts.note(wallet=publisher, kind=Attempt.Kind.NAME_REFUSED)
        raise


def claim(
    *, publisher: Wallet, name: str, policy: Access, allow_list: Iterable[str] = ()
) -> tuple[Model, bool]:
    """The model of a name, locked, and whether it was made just now, with policy and allow list.

    Policy and list are only what a new name begins with. Raises ``Problem``: 409, 422, 429.
    """
    if not names.is_name(name):
        raise _malformed(name)
    # One claim of a wallet at a time, so that its quota is exact.
    Wallet.objects.select_for_update(no_key=True).get(pk=publisher.pk)
    model = Model.objects.select_for_update(no_key=True).filter(pk=name).first()
    if model is not None:
        if model.owner_id != publisher.pk:
            raise unavailable(name)
        return model, False
    if names.is_reserved(name):
        raise unavailable(name)
    _require_quota(publisher)
    guests = tuple(dict.fromkeys(allow_list))
    restricted = not policy.public or bool(guests)
    made = Model(
        name=name,
        skeleton=names.skeleton(name),
        owner=publisher,
        public=policy.public,
        auth_required=policy.auth_required or restricted,
        restricted=restricted,
    )
    Model.objects.bulk_create([made], ignore_conflicts=True)
    # Read back: another registrant may have won while this insert waited for theirs.
    model = Model.objects.select_for_update(no_key=True).filter(pk=name).first()
    if model is None or model.owner_id != publisher.pk:
        raise unavailable(name)
    AccessPolicy.objects.create(
        model=model,
        public=model.public,
        auth_required=model.auth_required,
        restricted=model.restricted,
        reason="manifest",
        changed_by=publisher,
    )
    access.seed(model=model, addresses=guests, changed_by=publisher)
    return model, True


def unavailable(name: str) -> Problem:
    """The one refusal of a name."""
    return Problem(
        UNAVAILABLE,
        f"The name {name!r} is not available: it is taken or reserved, or reads like one that is.",
        status=409,
        remedy="Choose another name; it belongs to its first registrant.",
    )


def _owns(publisher: Wallet, name: str) -> bool:
    return Model.objects.filter(pk=name, owner=publisher).exists()


def _is_taken(name: str) -> bool:
    # Asked of the database for reserved names as well: one work for all.
    taken = Model.objects.filter(Q(pk=name) | Q(skeleton=names.skeleton(name))).exists()
    return names.is_reserved(name) or taken


def _require_room(publisher: Wallet) -> None:
    attempts.require_room(
        wallet=publisher,
        kind=Attempt.Kind.NAME_REFUSED,
        limit=settings.NAME_REFUSALS_PER_HOUR,
        doing="is refused a name",
    )


def _require_quota(publisher: Wallet) -> None:
    if Model.objects.filter(owner=publisher).count() >= settings.MODELS_PER_WALLET:
        raise Problem(
            "quota-exceeded",
            f"A wallet owns at most {settings.MODELS_PER_WALLET} names.",
            status=429,
            remedy="Publish a version of a model that you own.",
        )


def _malformed(name: str) -> Problem:
    detail = f"{name[:80]!r} is not a model name."
    remedy = (
        f"Use 2 to {names.MAX_CHARACTERS} lower-case letters, digits and single hyphens, beginning "
        'and ending with a letter or digit, like "summarizer-v1".'
    )
    return Problem(
        "name-malformed",
        detail,
        status=422,
        remedy=remedy,
        violations=(Violation("/name", detail, remedy),),
    )
