"""The account's money: the prepaid balance with its ways in and out, and what was earned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from billing.ledger.models import Reason
from billing.ledger.queries import Entry, balance_of, entries_of
from billing.ledger.services import set_day_limit
from billing.payouts import queries, services
from billing.payouts.api import amount_asked
from billing.payouts.documents import hash_of
from billing.payouts.forms import DepositForm, LimitForm, WithdrawForm
from billing.payouts.models import Transaction, Withdrawal
from inframind.identity.authority import permitted
from inframind.identity.forms import PageForm
from inframind.identity.pages import account_page, not_an_act, part, wallet_of, wants_part
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem
from inframind.problems import as_response

_ENTRIES: Final = 25
_LISTED: Final = 10
# Two forms of the page ask for an amount.
_DEPOSIT_IDS: Final = "deposit_%s"
_WITHDRAW_IDS: Final = "withdraw_%s"
_OPEN: Final = (Transaction.State.QUEUED, Transaction.State.SENT, Transaction.State.MINED)
_ENDED: Final = (Transaction.State.FAILED, Transaction.State.CONFIRMED)
_FAILED_SHOWN: Final = timedelta(hours=1)
# Test IFM makes no entry of the balance: that it came is said here.
_ARRIVED_SHOWN: Final = timedelta(minutes=10)
_WHAT: Final = {
    "deposit": "Your deposit",
    "withdrawal": "Your withdrawal",
    "claim": "Your claim",
    "faucet": "Test IFM for your wallet",
}
_GAS: Final = "Test ETH for your wallet's gas"
_STATE_WORDS: Final = {
    Transaction.State.QUEUED: ("queued", "It is sent in a moment."),
    Transaction.State.SENT: ("sent", "It waits for a block."),
    Transaction.State.MINED: ("in a block", "It waits for its confirmations."),
    Transaction.State.FAILED: ("failed", "Nothing was moved."),
    Transaction.State.CONFIRMED: ("arrived", "It is in your wallet now: name an amount, top up."),
}


@dataclass(frozen=True)
class Moving:
    """Something under way, in words. ``needed`` is 0 where no confirmations are counted."""

    what: str
    state: str
    word: str
    words: str = ""
    amount_base_units: int = 0
    hash: str = ""
    confirmations: int = 0
    needed: int = 0


@dataclass(frozen=True)
class ShownEntry:
    at: datetime
    word: str
    amount_base_units: int
    subject: str
    url: str
    is_hash: bool


@permitted(GET="usage.read", POST="funds.move")
@require_http_methods(["GET", "HEAD", "POST"])
@account_page
def balance(request: HttpRequest) -> HttpResponse:
    """What there is, what moves, and the forms; ``?funds`` asks for the figures alone."""
    if request.method == "POST":
        return _act(request)
    if wants_part(request) and "funds" in request.GET:
        context = _funds(request) | {"is_poll": True}
        return render(request, "billing/balance.html#funds", context)
    return _page(request, {})


@permitted(GET="funds.move")
@require_safe
@account_page
def permit(request: HttpRequest) -> HttpResponse:
    """What the wallet signs for a top-up (EIP-712), for the page's script."""
    try:
        wanted = services.permit_for(
            wallet_of(request), amount_asked(request.GET.get("amount", ""))
        )
    except Problem as problem:
        return as_response(problem, request_id=request.META.get("REQUEST_ID", ""))
    return JsonResponse(wanted)


def _act(request: HttpRequest) -> HttpResponse:
    act = request.POST.get("act", "")
    wallet = wallet_of(request)
    try:
        match act:
            case "faucet":
                services.faucet(wallet)
                return _done(request, "Test IFM is on its way to your wallet.")
            case "resend":
                row = Withdrawal.objects.filter(wallet=wallet, state=Withdrawal.State.OPEN).first()
                if row is not None:
                    services.relay_withdrawal(row)
                return _done(request, "It is sent again.")
            case "deposit":
                return _deposit(request, DepositForm(request.POST, auto_id=_DEPOSIT_IDS))
            case "withdraw":
                form: PageForm = WithdrawForm(request.POST, auto_id=_WITHDRAW_IDS)
                if not form.is_valid():
                    return _page(request, {"withdraw_form": form}, status=422)
                return _withdraw(request, form)
            case "limit":
                form = LimitForm(request.POST)
                if not form.is_valid():
                    return _page(request, {"limit_form": form}, status=422)
                set_day_limit(wallet.address, form.cleaned_data["per_day"])
                return _done(request, "Your limit is saved.")
    except Problem as problem:
        return _page(request, {"refusal": problem}, status=problem.status)
    return _page(request, {"refusal": not_an_act()}, status=422)


def _deposit(request: HttpRequest, form: DepositForm) -> HttpResponse:
    if form.is_valid():
        given = form.cleaned_data
        services.relay_deposit(
            wallet_of(request), given["amount"], given["deadline"], given["signature"]
        )
        return _done(request, "Your deposit is on its way.")
    context: dict[str, Any] = {"deposit_form": form}
    if form.is_unsigned:
        context["refusal"] = Problem(
            "permit-missing",
            "Your wallet has signed nothing yet, so nothing was sent.",
            remedy="Choose a wallet under the amount, or use the command.",
        )
    return _page(request, context, status=422)


def _withdraw(request: HttpRequest, form: PageForm) -> HttpResponse:
    try:
        row = services.begin_withdrawal(wallet_of(request), form.cleaned_data["amount"])
    except Problem as problem:
        form.refused(problem)
        return _page(request, {"withdraw_form": form}, status=problem.status)
    amount = format_ifm(int(row.amount_base_units))
    try:
        services.relay_withdrawal(row)
    except Problem as problem:
        return _done(request, f"{amount} set aside, and not sent yet: {problem.detail}")
    return _done(request, f"{amount} is on its way to your wallet.")


def _done(request: HttpRequest, words: str) -> HttpResponse:
    messages.success(request, words)
    return redirect("account-balance")


def _page(request: HttpRequest, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    address = str(request.user.pk)
    funds = _funds(request)
    limit = funds["funds"].day_limit_base_units
    initial = {} if limit is None else {"per_day": format_ifm(limit)}
    return part(
        request,
        "billing/balance.html",
        {
            **funds,
            "deposits": queries.deposits_of(address, limit=_LISTED),
            "withdrawals": list(queries.withdrawals_of(address)[:_LISTED]),
            "deposit_form": DepositForm(auto_id=_DEPOSIT_IDS),
            "withdraw_form": WithdrawForm(auto_id=_WITHDRAW_IDS),
            "limit_form": LimitForm(initial=initial),
            "has_faucet": settings.FAUCET,
            "chain_id": settings.CHAIN_ID,
            "ifm": settings.IFM_ADDRESS,
            "settlement": settings.SETTLEMENT_ADDRESS,
            **context,
        },
        tab="balance",
        title="Balance",
        status=status,
    )


def _funds(request: HttpRequest) -> dict[str, Any]:
    """The figures, what moves, and the newest entries: what a poll brings up to date."""
    address = str(request.user.pk)
    moving = _moving(address)
    withdrawal = queries.withdrawals_of(address).filter(state=Withdrawal.State.OPEN).first()
    entries, older = _entries(address, request.GET.get("before", ""))
    return {
        "funds": balance_of(address),
        "chain": _chain(),
        "moving": moving,
        "is_polled": any(each.state not in _ENDED for each in moving),
        "says": _says(moving),
        "open_withdrawal": withdrawal,
        "is_unsent": withdrawal is not None and not _is_sent(withdrawal),
        "entries": entries,
        "older_url": older,
        "is_older": "before" in request.GET or "older" in request.GET,
    }


def _moving(address: str) -> list[Moving]:
    """What has not arrived yet. A deposit that is seen on chain stands for what we sent for it."""
    found = [
        Moving(
            what="Your deposit",
            state="confirming",
            word="confirming",
            amount_base_units=each.amount_base_units,
            hash=each.transaction,
            confirmations=each.confirmations,
            needed=each.needed,
        )
        for each in queries.deposits_of(address, limit=0)
    ]
    seen = {each.hash for each in found}
    for row in queries.transactions_of(address)[: 4 * _LISTED]:
        if not _is_news(row) or seen.intersection(row.hashes):
            continue
        kind = row.key.partition(":")[0]
        word, words = _STATE_WORDS[Transaction.State(row.state)]
        found.append(
            Moving(
                what=_GAS if _is_gas(row) else _WHAT.get(kind, "A transaction for you"),
                state=row.state,
                word=word,
                words=f"{row.reason} {words}".strip()
                if row.state == Transaction.State.FAILED
                else words,
                hash=hash_of(row),
            )
        )
    return found


def _is_gas(row: Transaction) -> bool:
    """The faucet gives a wallet that has no ETH some for its gas."""
    return row.key.startswith("faucet:") and row.key.endswith(":eth")


def _is_news(row: Transaction) -> bool:
    age = datetime.now(UTC) - (row.ended_at or row.created_at)
    match row.state:
        case Transaction.State.FAILED:
            return age < _FAILED_SHOWN
        case Transaction.State.CONFIRMED:
            return row.key.startswith("faucet:") and not _is_gas(row) and age < _ARRIVED_SHOWN
    return row.state in _OPEN


def _says(moving: list[Moving]) -> str:
    return " ".join(
        f"{each.what}: {each.word}"
        + (f", {each.confirmations} of {each.needed}." if each.needed else ".")
        for each in moving
    )


def _is_sent(withdrawal: Withdrawal) -> bool:
    rows = Transaction.objects.filter(key=f"withdrawal:{withdrawal.pk}")
    return rows.exclude(state=Transaction.State.FAILED).exists()


def _entries(address: str, before: str) -> tuple[list[ShownEntry], str]:
    """The newest entries, or those before one, and the address of the older ones."""
    try:
        found = entries_of(address, before=UUID(before) if before else None, limit=_ENTRIES + 1)
    except (ValueError, Problem):
        found = entries_of(address, limit=_ENTRIES + 1)
    older = ""
    if len(found) > _ENTRIES:
        query = urlencode({"before": str(found[_ENTRIES - 1].id)})
        older = f"{reverse('account-balance')}?{query}"
    return [_shown(each) for each in found[:_ENTRIES]], older


def _shown(entry: Entry) -> ShownEntry:
    kind, _, rest = entry.subject.partition(":")
    is_epoch = kind == "epoch" and rest.isascii() and rest.isdigit()
    return ShownEntry(
        at=entry.at,
        word=Reason(entry.reason).label,
        amount_base_units=entry.amount_base_units,
        # A withdrawal has no page of its own: its amount and time tell which it was.
        subject=f"epoch {rest}" if is_epoch else "" if kind == "withdrawal" else entry.subject,
        url=f"/epochs/{rest}" if is_epoch else "",
        is_hash=entry.subject.startswith("0x"),
    )


def _chain() -> dict[str, str]:
    """What is wrong with the chain, in words, and what works all the same; empty if nothing is."""
    status = queries.chain_status()
    works = (
        "Calls go on and are charged to what you have; nothing that was sent is lost. Deposits "
        "and withdrawals wait."
    )
    if not status.is_configured:
        return {}
    if status.is_halted:
        return {
            "kind": "bad",
            "notice": "Crediting from the chain is halted until a person has looked.",
            "words": works,
        }
    if status.is_late:
        return {
            "kind": "warn",
            "notice": "The chain has not answered for some minutes.",
            "words": works,
        }
    return {}
