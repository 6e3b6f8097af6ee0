"""Writes of the catalog: one verb each, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from inframind.identity import authority
from inframind.identity.models import Wallet
from inframind.identity.queries import caller_of_wallet
from inframind.lib.addresses import payee_address
from inframind.lib.problem import Problem
from marketplace.catalog import lifecycle, review
from marketplace.catalog.access import allow, change_access, remove
from marketplace.catalog.access_requests import ask, decide
from marketplace.catalog.groups import add_members, create_group, delete_group, remove_member
from marketplace.catalog.intake import lock_content, sweep_packages
from marketplace.catalog.models import CodeReview, Model, Terms, Verification, Version
from marketplace.catalog.reasons import required_reason, unusable
from marketplace.catalog.registration import Registration, register
from marketplace.catalog.standing import (
    OPEN_RUNS,
    activate,
    choose_current,
    choose_unexpired,
    delist,
    deprecate,
    locked_version,
    refresh_current,
    take_down,
)
from marketplace.catalog.verification import verify, verify_next
from marketplace.catalog.visibility import kind_of

__all__ = [
    "Registration",
    "activate",
    "add_members",
    "allow",
    "ask",
    "change_access",
    "change_terms",
    "choose_unexpired",
    "create_group",
    "decide",
    "delete_group",
    "delist",
    "deprecate",
    "refresh_current",
    "register",
    "remove",
    "remove_member",
    "request_verification",
    "review_code",
    "set_calls_30d",
    "sweep_packages",
    "verify",
    "verify_next",
]

MAX_FEE_BASE_UNITS = 10**58


@transaction.atomic
def change_terms(
    *,
    version: Version,
    fee_base_units: int,
    payout_address: str,
    expires_at: datetime | None,
    reason: str,
    changed_by: Wallet,
) -> Terms:
    """Puts new terms in force and keeps the old ones. Raises ``Problem`` 422 for unusable ones."""
    if not 0 <= fee_base_units < MAX_FEE_BASE_UNITS:
        raise unusable("A fee is not negative, and below 10**40 IFM.")
    try:
        payout_address = payee_address(payout_address)
    except ValueError as error:
        raise unusable(str(error)) from None
    locked = locked_version(version)
    terms = Terms.objects.create(
        version=locked,
        fee_base_units=fee_base_units,
        payout_address=payout_address,
        expires_at=expires_at,
        reason=required_reason(reason),
        changed_by=changed_by,
    )
    locked.fee_base_units = fee_base_units
    locked.payout_address = payout_address
    locked.expires_at = expires_at
    locked.save(update_fields=["fee_base_units", "payout_address", "expires_at"])
    choose_current(locked.model_id)
    return terms


@transaction.atomic
def review_code(*, version: Version, reviewer: Wallet, verdict: str, note: str = "") -> CodeReview:
    """Records a verdict on the version's bytes, wherever they are listed.

    Approval queues the verification of every pending version of these bytes; refusal delists those
    that are live. Raises ``Problem`` 409 when the version ships no code, 403 for those whom the
    table of authority does not let review it, and for one's own code.
    """
    if version.runtime != Version.Runtime.PYTHON:
        raise Problem(
            "nothing-to-review",
            f"{version} ships no publisher code.",
            status=409,
            remedy="Only versions of runtime python are reviewed.",
        )
    if verdict not in CodeReview.Verdict.values:
        raise unusable(f"A verdict is one of {', '.join(CodeReview.Verdict.values)}.")
    # A registration of these bytes either sees this verdict or is seen by it.
    lock_content(version.content_cid)
    same = Version.objects.filter(content_cid=version.content_cid, runtime=Version.Runtime.PYTHON)
    own = Q(published_by=reviewer) | Q(model__owner=reviewer)
    authority.require(
        caller_of_wallet(reviewer.pk),
        "code.review",
        kind_of(version.model),
        what="version with this name",
    )
    if same.filter(own).exists():
        raise Problem(
            "forbidden",
            "Nobody reviews their own code.",
            status=403,
            remedy="Ask another reviewer.",
        )
    # Models before versions, as everywhere, and in one order.
    names = sorted(set(same.values_list("model_id", flat=True)))
    list(Model.objects.select_for_update(no_key=True).filter(pk__in=names).order_by("pk"))
    found = list(same.select_for_update(no_key=True).order_by("id"))
    done = CodeReview.objects.create(
        cid=version.content_cid, verdict=verdict, note=note.strip(), reviewer=reviewer
    )
    for each in found:
        if each.state == Version.State.PENDING:
            each.state_reason = review.waiting_reason(each)
            each.save(update_fields=["state_reason"])
            open_runs = Verification.objects.filter(version=each, state__in=OPEN_RUNS)
            if verdict == CodeReview.Verdict.APPROVED:
                if not open_runs.exists():
                    Verification.objects.create(version=each)
            else:
                open_runs.update(
                    state=Verification.State.FAILED,
                    reason_code="review-refused",
                    reason=each.state_reason,
                    finished_at=Now(),
                    lease_expires_at=None,
                )
        elif verdict == CodeReview.Verdict.REFUSED and each.state in lifecycle.CALLABLE:
            take_down(each, review.waiting_reason(each))
    return done


@transaction.atomic
def request_verification(*, version: Version) -> Verification:
    """Queues a run, or returns the one under way. Raises ``Problem`` 409 with the reason not to."""
    locked = locked_version(version)
    if locked.state == Version.State.DELISTED:
        raise Problem(
            "delisted",
            f"{locked} is delisted: {locked.state_reason}",
            status=409,
            remedy="Publish a new version.",
        )
    waiting = review.waiting_reason(locked)
    if waiting:
        raise Problem("review-needed", waiting, status=409)
    current = Verification.objects.filter(version=locked, state__in=OPEN_RUNS).first()
    return current or Verification.objects.create(version=locked)


@transaction.atomic
def set_calls_30d(counts: Mapping[str, int]) -> None:
    """Writes how often each named model was called in 30 days; all others were not called."""
    Model.objects.exclude(pk__in=counts).exclude(calls_30d=0).update(calls_30d=0)
    models = list(Model.objects.filter(pk__in=counts))
    for model in models:
        model.calls_30d = counts[model.pk]
    Model.objects.bulk_update(models, ["calls_30d"], batch_size=500)
