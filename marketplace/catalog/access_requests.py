"""Asking to be let in. Whoever asks learns nothing of the name: not even whether it is taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Q, QuerySet, Value, When
from django.db.models.functions import Now

from inframind.identity.models import Wallet
from inframind.lib.problem import Problem, not_found
from marketplace.catalog import attempts
from marketplace.catalog.access import Guest, allow
from marketplace.catalog.models import AccessRequest, Attempt, Model
from marketplace.catalog.reasons import unusable
from marketplace.catalog.serving import well_formed

State = AccessRequest.State
_LOOKS_OPEN: Final = Q(state=State.OPEN) | Q(state=State.REFUSED, told=False)
ASKED: Final = (
    "Whoever owns this name finds your request, if anybody does. You hear of it only if they "
    "answer."
)


@dataclass(frozen=True)
class Asked:
    """A request as the wallet that asked may see it."""

    model: str
    message: str
    state: str
    answer: str
    created_at: datetime
    decided_at: datetime | None


@transaction.atomic
def ask(*, wallet: Wallet, name: str, message: str = "") -> None:
    """Leaves a request for whoever owns the name, now or later; asking again replaces it.

    The message that stood is kept when the new one is empty.

    Raises ``Problem``: 422 for what cannot be a name, 429 over the limit of the wallet.
    """
    if not well_formed(name):
        raise unusable(
            f"{name[:80]!r} cannot be a model's name.", "Copy the name as you were given it."
        )
    attempts.require_room(
        wallet=wallet,
        kind=Attempt.Kind.ACCESS_ASKED,
        limit=settings.ACCESS_REQUESTS_PER_HOUR,
        doing="asks for access",
    )
    attempts.note(wallet=wallet, kind=Attempt.Kind.ACCESS_ASKED)
    # One that was silently refused counts too: else an emptied message would tell of the refusal.
    stood = AccessRequest.objects.filter(_LOOKS_OPEN, model_name=name, wallet=wallet)
    earlier = stood.values_list("message", flat=True).first() or ""
    # Written anew, not kept: else a request that was silently refused would look younger than one
    # that nobody could answer.
    AccessRequest.objects.filter(model_name=name, wallet=wallet, state=State.OPEN).delete()
    said = message.replace("\0", "").strip()[:500]
    AccessRequest.objects.create(model_name=name, wallet=wallet, message=said or earlier)


def asked_by(wallet: str) -> list[Asked]:
    """The wallet's own requests, the newest first. A silent refusal looks open for ever."""
    found: list[Asked] = []
    open_names: set[str] = set()
    for each in AccessRequest.objects.filter(wallet=wallet):
        if each.state == State.OPEN or (each.state == State.REFUSED and not each.told):
            if each.model_name not in open_names:
                open_names.add(each.model_name)
                found.append(
                    Asked(each.model_name, each.message, State.OPEN, "", each.created_at, None)
                )
            continue
        found.append(
            Asked(
                each.model_name,
                each.message,
                each.state,
                each.answer,
                each.created_at,
                each.decided_at,
            )
        )
    return found


def requests_for(model: Model) -> QuerySet[AccessRequest]:
    """What was asked of the model's owner: what waits for an answer, then the rest, each the
    newest first."""
    waits_first = Case(When(state=State.OPEN, then=Value(0)), default=Value(1))
    found = AccessRequest.objects.filter(model_name=model.pk).select_related("wallet")
    return found.order_by(waits_first, "-created_at")


def open_requests(model: Model) -> int:
    """How many wait for an answer."""
    return AccessRequest.objects.filter(model_name=model.pk, state=State.OPEN).count()


@transaction.atomic
def decide(
    *,
    model: Model,
    request_id: UUID,
    state: str,
    decided_by: Wallet,
    answer: str = "",
    tell: bool = False,
    expires_at: datetime | None = None,
) -> AccessRequest:
    """Approves, which puts the wallet on the list, or refuses, silently unless ``tell``.

    Raises ``Problem``: 404, 409 for one that was decided, 422.
    """
    if state not in (State.APPROVED, State.REFUSED):
        raise unusable("A request is approved or refused.")
    Model.objects.select_for_update(no_key=True).get(pk=model.pk)
    locked = AccessRequest.objects.select_for_update(no_key=True)
    request = locked.filter(pk=request_id, model_name=model.pk).first()
    if request is None:
        raise not_found("such request for this model")
    if request.state != State.OPEN:
        raise Problem(
            "decided",
            f"This request was {request.get_state_display().lower()} already.",
            status=409,
            remedy="Change the allow list itself.",
        )
    request.state = State(state)
    request.answer = answer.replace("\0", "").strip()[:500]
    request.told = tell or state == State.APPROVED
    request.decided_by = decided_by
    request.decided_at = Now()
    request.save(update_fields=["state", "answer", "told", "decided_by", "decided_at"])
    if state == State.APPROVED:
        guest = Guest(address=request.wallet_id, expires_at=expires_at, note="Asked for access")
        allow(model=model, guests=[guest], changed_by=decided_by)
    request.refresh_from_db()
    return request
