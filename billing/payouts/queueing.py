"""Wishes become rows: transactions that we send, once for each thing that they are for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from billing.epochs.models import Epoch
from billing.payouts import locks, onchain
from billing.payouts.models import Transaction
from billing.payouts.sending import OPEN, ROOT
from inframind.chain.client import CallReverted, ChainUnavailable
from inframind.identity.models import Wallet
from inframind.lib import calldata
from inframind.lib.problem import Problem, not_found

log = structlog.get_logger(__name__)

_DAY = timedelta(days=1)
_OURS = ("faucet:", ROOT)  # keys of what is no relay


@transaction.atomic
def enqueue(
    *,
    key: str,
    to: str,
    data: bytes,
    wallet: Wallet | None = None,
    value_wei: int = 0,
    again: bool = False,
) -> Transaction:
    """The row of this key, queued where there is none yet.

    One that failed is queued again with this content, and so is one that was confirmed where
    ``again``; one that is on its way stays as it is. Raises ``ChainUnavailable`` without a key to
    sign with.
    """
    row, created = Transaction.objects.select_for_update().get_or_create(
        key=key,
        defaults={
            "to": to,
            "data": data,
            "wallet": wallet,
            "value_wei": value_wei,
            "sender": onchain.operator(),
        },
    )
    over = [Transaction.State.FAILED, *([Transaction.State.CONFIRMED] if again else [])]
    if created or row.state not in over:
        return row
    log.info("a transaction is queued again", key=key, before=row.hashes, reason=row.reason)
    # Its nonce is used up and its hashes are settled: what goes out now is another transaction.
    row.state, row.nonce, row.hashes, row.reason = Transaction.State.QUEUED, None, [], ""
    row.mined_hash, row.mined_block = "", None
    row.sent_at = row.ended_at = None
    row.to, row.data, row.value_wei = to, data, value_wei
    row.save()
    return row


@transaction.atomic
def relay(*, wallet: Wallet, key: str, to: str, data: bytes) -> Transaction:
    """A row for a wallet, at our expense. Raises a 429 ``Problem`` above ``RELAYS_PER_DAY`` and
    ``RELAYS_PER_DAY_IN_ALL``, and a 503 one without a key to send with."""
    if not onchain.can_send():
        raise onchain.unavailable()
    # One at a time for each wallet, so that many at once are counted as many.
    Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
    existing = Transaction.objects.filter(key=key).first()
    if existing is None or existing.state == Transaction.State.FAILED:
        _require_relays_left(wallet)
    return enqueue(key=key, to=to, data=data, wallet=wallet)


def publish_root(epoch: int) -> Transaction:
    """Queues the proposal of a sealed epoch's root, once however often it is asked for.

    A root that was revoked, or whose proposal failed, is proposed anew: to ask is the decision.
    Raises a ``Problem``: 404 for an epoch that never was, 409 for one that is not sealed or has
    nothing to pay, 503 where the chain cannot be asked.
    """
    row = Epoch.objects.filter(pk=epoch).first()
    if row is None:
        raise not_found(f"epoch {epoch}")
    if row.state in (Epoch.State.OPEN, Epoch.State.CLOSING):
        raise Problem(
            "epoch-not-sealed",
            f"Epoch {epoch} is {row.get_state_display().lower()}; it has no root yet.",
            status=409,
            remedy="Close it first: manage.py close_epoch.",
        )
    if not row.root:
        raise Problem(
            "nothing-to-publish",
            f"Nobody has earned anything up to epoch {epoch}: its tree is empty.",
            status=409,
            remedy="Publish a later epoch.",
        )
    root = bytes(row.root)
    again = False
    if row.state == Epoch.State.SEALED:
        try:
            # Confirmed and yet not proposed: revoked, or not read from the chain yet.
            again = onchain.contracts().root_of(epoch).root != root
        except (ChainUnavailable, CallReverted) as error:
            log.warning("chain unavailable", reason=str(error))
            raise onchain.unavailable() from None
    if not onchain.can_send():
        raise onchain.unavailable()
    return _enqueue_root(row, again=again)


def publish_due() -> list[Transaction]:
    """Queues the roots of sealed epochs for which nobody did yet, one at a time, oldest first.

    A root that was proposed once and revoked, or failed, waits for a person's ``publish_root``.
    """
    if (
        not onchain.can_send()
        or Transaction.objects.filter(key__startswith=ROOT, state__in=OPEN).exists()
    ):
        return []
    sealed = Epoch.objects.filter(state=Epoch.State.SEALED, root__isnull=False).order_by("number")
    for epoch in sealed:
        key = root_key(epoch.number, bytes(epoch.root or b""))
        if not Transaction.objects.filter(key=key).exists() and not _is_superseded(epoch.number):
            return [_enqueue_root(epoch, again=False)]
    return []


def _enqueue_root(epoch: Epoch, *, again: bool) -> Transaction:
    root = bytes(epoch.root or b"")
    total = int(epoch.total_base_units)
    return enqueue(
        key=root_key(epoch.number, root),
        to=onchain.contracts().settlement,
        data=calldata.propose_root(epoch.number, root, total, f"ipfs://{epoch.tree_cid}"),
        again=again,
    )


def root_key(epoch: int, root: bytes) -> str:
    """What a proposal's row is called: another root of the same epoch would be another row."""
    return f"{ROOT}{epoch}:0x{root.hex()}"


def _is_superseded(number: int) -> bool:
    """Whether a later epoch's root is on chain, which pays all that this one would."""
    later = [Epoch.State.PROPOSED, Epoch.State.CLAIMABLE]
    return Epoch.objects.filter(number__gt=number, state__in=later).exists()


def _require_relays_left(wallet: Wallet) -> None:
    used = _used(Transaction.objects.filter(wallet=wallet))
    if len(used) >= settings.RELAYS_PER_DAY:
        raise Problem(
            "too-many-relays",
            f"InfraMind sends {settings.RELAYS_PER_DAY} transactions a day for a wallet at its own "
            "expense, and these are used up.",
            status=429,
            remedy="Send it from your own wallet: ask for the transaction without relay.",
            retry_safe=True,
            retry_after_seconds=_wait_seconds(used),
        )
    # Wallets cost nothing, so the bound of what we spend is the one of all of them together.
    locks.wait_for(locks.RELAYING)
    used = _used(Transaction.objects.filter(wallet__isnull=False))
    if len(used) >= settings.RELAYS_PER_DAY_IN_ALL:
        raise Problem(
            "relays-used-up",
            f"InfraMind sends {settings.RELAYS_PER_DAY_IN_ALL} transactions a day at its own "
            "expense for all wallets together, and these are used up.",
            status=429,
            remedy="Your wallet can send it itself, for a little ETH: ask for the transaction "
            "without relay, or give the same infra command without --relay.",
            retry_safe=True,
            retry_after_seconds=_wait_seconds(used),
        )


def _used(rows: QuerySet[Transaction]) -> list[datetime]:
    """When the relays of the last day among these were made, oldest first."""
    since = datetime.now(UTC) - _DAY
    rows = rows.filter(Q(created_at__gt=since) | Q(sent_at__gt=since))
    for prefix in _OURS:
        rows = rows.exclude(key__startswith=prefix)
    # One that failed and is sent again costs gas again.
    return sorted(
        sent_at or created_at
        for created_at, sent_at, attempts in rows.values_list("created_at", "sent_at", "attempts")
        for _ in range(max(1, attempts))
    )


def _wait_seconds(used: list[datetime]) -> int:
    wait = (used[0] + _DAY - datetime.now(UTC)).total_seconds() if used else 86_400
    return max(1, int(wait))
