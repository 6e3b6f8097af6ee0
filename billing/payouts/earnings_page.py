"""What the account has earned: sums, epochs, line items, proofs, and the claim."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from billing.payouts import queries, services
from billing.payouts.documents import hash_of
from billing.payouts.earnings import Earnings, Owed, earnings_of
from billing.payouts.models import Transaction
from inframind.identity.authority import permitted
from inframind.identity.pages import account_page, not_an_act, part, wallet_of, wants_part
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem

_EPOCHS_DRAWN: Final = 60
_LINES_SHOWN: Final = 100
_OPEN: Final = (Transaction.State.QUEUED, Transaction.State.SENT, Transaction.State.MINED)


@dataclass(frozen=True)
class ShownStream:
    """A stream with its kind and name apart, and the leaf with its proof as JSON to copy."""

    owed: Owed
    kind: str
    name: str
    proof_text: str
    is_cut: bool

    @property
    def lines(self) -> tuple[Any, ...]:
        return self.owed.reward.earnings[:_LINES_SHOWN]


@permitted(GET="usage.read", POST="funds.move")
@require_http_methods(["GET", "HEAD", "POST"])
@account_page
def earnings(request: HttpRequest) -> HttpResponse:
    """Everything that was earned; a POST claims all of it, or one stream. ``?sums`` asks for the
    figures alone."""
    if request.method != "POST" and wants_part(request) and "sums" in request.GET:
        context = _context(str(request.user.pk)) | {"is_poll": True}
        return render(request, "billing/earnings.html#sums", context)
    if request.method != "POST":
        return _page(request, {})
    try:
        text = request.POST.get("stream", "")
        streams = [_stream(text)] if text else None
        services.relay_claim(wallet_of(request), streams)
    except Problem as problem:
        return _page(request, {"refusal": problem}, status=problem.status)
    messages.success(request, "Your claim is on its way. It arrives in your wallet on chain.")
    return redirect("account-earnings")


def _stream(text: str) -> bytes:
    try:
        stream = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        stream = b""
    if len(stream) != 32:
        raise not_an_act()
    return stream


def _page(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    return part(
        request,
        "billing/earnings.html",
        {**_context(str(request.user.pk)), **context},
        tab="earnings",
        title="Earnings",
        status=status,
    )


def _context(address: str) -> dict[str, Any]:
    found = earnings_of(address)
    drawn = found.by_epoch[-_EPOCHS_DRAWN:]
    claims = [
        {"row": row, "hash": hash_of(row)}
        for row in queries.transactions_of(address).filter(
            key__startswith="claim:", state__in=_OPEN
        )[:10]
    ]
    return {
        "found": found,
        "root_hex": "" if found.epoch is None else _hex(found.epoch.root),
        "streams": [_shown(address, found, each) for each in found.streams],
        "amounts": [amount for _, amount in drawn],
        "hints": [f"Epoch {number}: {format_ifm(amount)}" for number, amount in drawn],
        "first_epoch": drawn[0][0] if drawn else None,
        "last_epoch": drawn[-1][0] if drawn else None,
        "claims": claims,
    }


def _shown(address: str, found: Earnings, owed: Owed) -> ShownStream:
    kind, _, name = owed.reward.subject.partition(":")
    proof = {
        "account": address,
        "stream": owed.reward.stream_hex,
        "cumulative": str(owed.reward.cumulative_base_units),
        "epoch": None if found.epoch is None else found.epoch.number,
        "root": None if found.epoch is None else _hex(found.epoch.root),
        "proof": ["0x" + each.hex() for each in owed.reward.proof],
    }
    return ShownStream(
        owed=owed,
        kind=kind,
        name=name,
        proof_text=json.dumps(proof, indent=2) if owed.reward.proven else "",
        is_cut=len(owed.reward.earnings) > _LINES_SHOWN,
    )


def _hex(root: Any) -> str:
    return "" if root is None else "0x" + bytes(root).hex()
