"""The explorer of epochs: the open one, the closed ones, and everything that can be checked."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from billing.epochs import queries
from billing.epochs.models import BASIS_POINTS, Epoch, Parameters
from billing.epochs.opening import current
from billing.payouts.explorer import lines_of_epoch, secret_among, shares_of, shown, steps_of
from inframind.identity.authority import permitted
from inframind.identity.pages import page_or_part, page_view, paged


@permitted(GET="site.read")
@require_safe
@page_view
def epochs(request: HttpRequest) -> HttpResponse:
    """The open epoch as far as it is, and every closed one."""
    [now] = shown([current()])
    closed = paged(request, queries.epochs().exclude(state=Epoch.State.OPEN))
    return page_or_part(
        request,
        "billing/epochs.html",
        "body",
        {
            **closed,
            "now": now,
            "closed": shown(list(closed["rows"])),
            "parameters": _parameters(),
        },
    )


@permitted(GET="site.read")
@require_safe
@page_view
def epoch(request: HttpRequest, number: int) -> HttpResponse:
    """One epoch: its states, roots, sums, line items, dumps, and the way to check them."""
    [found] = shown([queries.epoch(number)])
    context = {
        "found": found,
        "epoch": found.epoch,
        "steps": steps_of(found.epoch),
        "parameters": _parameters(),
        "chain_id": settings.CHAIN_ID,
        "settlement": settings.SETTLEMENT_ADDRESS,
        "verify_command": f"infra rewards verify --epoch {number}",
    }
    if found.is_whole:
        lines = paged(request, lines_of_epoch(found.epoch))
        secret = secret_among(list(lines["rows"]))
        context |= {"shares": shares_of(found.epoch), "secret": secret, **lines}
    return page_or_part(request, "billing/epoch.html", "body", context)


def _parameters() -> dict[str, object] | None:
    latest = Parameters.objects.order_by("-version").first()
    if latest is None:
        return None
    rest = BASIS_POINTS - latest.node_basis_points - latest.owner_basis_points
    return {
        "version": latest.version,
        "owner_share": latest.owner_basis_points / BASIS_POINTS,
        "node_share": latest.node_basis_points / BASIS_POINTS,
        "treasury_share": rest / BASIS_POINTS,
        "epoch_seconds": latest.epoch_seconds,
    }
