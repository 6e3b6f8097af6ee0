"""Our own transactions, from rows to confirmation, whatever ends in between.

A row is written as sent, with nonce, gas, fees and hash, before its bytes leave. Signing the same
fields gives the same bytes, so after a crash the very same transaction goes out again. All hashes
that were ever signed for a row are kept: a row gets another nonce only when the one it had was
used, as of a confirmed block, by a transaction that is none of them. One worker sends at a time;
two would take each other's nonces, which a constraint refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max

from billing.payouts import locks, onchain
from billing.payouts.models import Cursor, Transaction
from inframind.chain import signing
from inframind.chain.client import Block, CallReverted, ChainUnavailable, Receipt
from inframind.chain.contracts import Contracts
from inframind.lib.ids import new_uuid7

log = structlog.get_logger(__name__)

STUCK_SECONDS: Final = 60
# Nodes replace a waiting transaction for an eighth more.
_BUMP_NUMERATOR, _BUMP_DENOMINATOR = 9, 8
# A transaction's cost changes with the state that it meets.
AT_ONCE: Final = 16
# More than this many times what nodes suggest: then it is not the fee that keeps it.
_MOST_TIMES: Final = 10
OPEN: Final = (Transaction.State.QUEUED, Transaction.State.SENT, Transaction.State.MINED)
_REASON_CHARACTERS: Final = 500
ROOT: Final = "root:"
GAP: Final = "gap:"
# A proposal that meets one of these is good later on.
_LATER: Final = frozenset({"RootPending", "EnforcedPause", "Underfunded"})


@dataclass(frozen=True)
class Sending:
    """What a round did, in rows."""

    sent: int = 0
    bumped: int = 0
    mined: int = 0
    ended: int = 0
    reason: str = ""


def send_due(*, stuck_seconds: float = STUCK_SECONDS) -> Sending:
    """One round: looks after what is on its way, then sends what is queued.

    Raises nothing for a node that is down: rows stay as they are.
    """
    # Rows that ended are looked at as well: a chain can lose what it had confirmed.
    if not onchain.can_send() or not Transaction.objects.exists():
        return Sending()
    with locks.alone(locks.SENDING) as got:
        if not got:
            return Sending(reason="another worker is sending")
        try:
            contracts = onchain.contracts()
            contracts.chain.confirm_chain_id()
            return _Round(contracts, stuck_seconds).run()
        except (ChainUnavailable, CallReverted) as error:
            log.warning("nothing was sent", reason=str(error))
            return Sending(reason=str(error))


class _Round:
    def __init__(self, contracts: Contracts, stuck_seconds: float) -> None:
        self._chain = contracts.chain
        self._key = onchain.key()
        self._sender = onchain.operator()
        self._stuck = timedelta(seconds=stuck_seconds)
        self._head = self._chain.head()
        self._confirmed = self._block_with_confirmations()
        self._sent = self._bumped = self._mined = self._ended = 0
        self._reason = ""

    def run(self) -> Sending:
        self._take_back()
        on_their_way = Transaction.objects.filter(
            sender=self._sender, state__in=[Transaction.State.SENT, Transaction.State.MINED]
        ).order_by("nonce")
        waiting = [row for row in on_their_way if not self._look_after(row)]
        self._fill_gap(waiting)
        for position, row in enumerate(waiting):
            self._press(row, is_first=position == 0)
        if Cursor.objects.filter(state=Cursor.State.HALTED).exists():
            # The books may not be what the chain is: nothing new is paid by them.
            return self._result("crediting is halted")
        room = AT_ONCE - len(waiting)
        queued = Transaction.objects.filter(state=Transaction.State.QUEUED).order_by("created_at")
        for row in queued[: max(0, room)]:
            self._send_first(row)
        return self._result(self._reason)

    def _result(self, reason: str) -> Sending:
        return Sending(self._sent, self._bumped, self._mined, self._ended, reason)

    def _block_with_confirmations(self) -> Block:
        number = max(0, self._head.number - settings.CHAIN_CONFIRMATIONS + 1)
        [block] = self._chain.blocks(number, number)
        assert block is not None
        return block

    def _take_back(self) -> None:
        """Rows that had ended, whose nonce the chain does not know any more, are under way again.

        A chain that lost its last blocks needs them: later nonces wait for these.
        """
        count = self._chain.nonce_of(self._sender)
        ended = [Transaction.State.CONFIRMED, Transaction.State.FAILED]
        lost = Transaction.objects.filter(
            sender=self._sender, nonce__gte=count, state__in=ended
        ).update(
            state=Transaction.State.SENT,
            mined_hash="",
            mined_block=None,
            ended_at=None,
            reason="The chain lost the block that it was in.",
        )
        if lost:
            log.error("the chain lost transactions that were confirmed", rows=lost)

    def _fill_gap(self, waiting: Sequence[Transaction]) -> None:
        """Sends nothing to ourselves by each nonce that is no row's and keeps later ones waiting.

        Somebody else's transaction had it, and a reorganisation or a full node lost it.
        """
        count = self._chain.nonce_of(self._sender)
        last = max((row.nonce or 0 for row in waiting), default=0)
        rows = Transaction.objects.filter(sender=self._sender, nonce__gte=count)
        taken = set(rows.values_list("nonce", flat=True))
        for nonce in range(count, min(last, count + AT_ONCE)):
            if nonce in taken:
                continue
            log.error("a nonce of ours is nobody's, and is filled", nonce=nonce)
            row = Transaction.objects.create(
                key=f"{GAP}{nonce}:{new_uuid7()}", sender=self._sender, to=self._sender, data=b""
            )
            self._send_first(row, nonce=nonce)

    # --- on their way ------------------------------------------------------------------------

    def _look_after(self, row: Transaction) -> bool:
        """Notes what became of a row; whether it is in a block, or needs no nonce any more."""
        receipt = self._receipt_of(row)
        if receipt is not None:
            self._note_mined(row, receipt)
            return True
        if row.state == Transaction.State.MINED:
            log.warning("a reorganisation took a transaction back", key=row.key)
            row.state, row.mined_hash, row.mined_block = Transaction.State.SENT, "", None
            row.save(update_fields=["state", "mined_hash", "mined_block"])
        assert row.nonce is not None
        if self._chain.nonce_of(self._sender, block=self._confirmed) > row.nonce:
            # Asked again, as the block may have come between the two questions.
            receipt = self._receipt_of(row)
            if receipt is not None:
                self._note_mined(row, receipt)
                return True
            if row.key.startswith(GAP):
                row.state, row.ended_at = Transaction.State.FAILED, datetime.now(UTC)
                row.reason = "Another transaction filled the gap."
                row.save(update_fields=["state", "ended_at", "reason"])
                return True
            log.error("somebody else sends with our key", key=row.key, nonce=row.nonce)
            row.state, row.nonce = Transaction.State.QUEUED, None
            row.reason = "Its nonce was used by a transaction that is not ours."
            row.save(update_fields=["state", "nonce", "reason"])
            return True
        return False

    def _receipt_of(self, row: Transaction) -> Receipt | None:
        found = [each for each in self._chain.receipts(row.hashes) if each is not None]
        for receipt in found:
            [block] = self._chain.blocks(
                receipt.block_number, receipt.block_number, allow_missing=True
            )
            if block is not None and block.hash == receipt.block_hash:
                return receipt
        return None

    def _note_mined(self, row: Transaction, receipt: Receipt) -> None:
        row.mined_hash, row.mined_block = receipt.transaction_hash, receipt.block_number
        if row.state != Transaction.State.MINED:
            self._mined += 1
        row.state = Transaction.State.MINED
        if receipt.block_number <= self._confirmed.number:
            row.ended_at = datetime.now(UTC)
            row.reason = "" if receipt.succeeded else self._why(row, receipt)
            row.state = (
                Transaction.State.CONFIRMED if receipt.succeeded else Transaction.State.FAILED
            )
            self._ended += 1
            if not receipt.succeeded:
                log.error("a transaction failed", key=row.key, reason=row.reason)
        row.save(update_fields=["mined_hash", "mined_block", "state", "reason", "ended_at"])

    def _why(self, row: Transaction, receipt: Receipt) -> str:
        """What the contract says to the same call, as of the block before."""
        try:
            before = self._chain.block(receipt.block_number - 1)
            self._chain.call(row.to, bytes(row.data), block=before, sender=row.sender)
        except CallReverted as error:
            return _short(f"The contract refused it: {error.words}.")
        except ChainUnavailable as error:
            return _short(f"It failed on chain; why is not known: {error}.")
        return "It failed on chain; the same call would have gone well in the block before."

    def _press(self, row: Transaction, *, is_first: bool) -> None:
        """Sends a waiting row again: as it was where the node lost it, for more where it is stuck.

        Only the first one is stuck by its fee; the others wait for it.
        """
        assert row.sent_at is not None
        if is_first and datetime.now(UTC) - row.sent_at >= self._stuck:
            fees = self._chain.fees()
            tip = max(_more(row.priority_fee_wei), fees.priority_fee_wei)
            offer = max(_more(row.max_fee_wei), fees.max_fee_wei, tip)
            if offer <= _MOST_TIMES * fees.max_fee_wei:
                row.max_fee_wei, row.priority_fee_wei = Decimal(offer), Decimal(tip)
                self._write_and_send(row, queued=False)
                self._bumped += 1
                return
        if not self._chain.knows(row.hashes[-1]):
            signed = self._signed(row)
            if signed.hash != row.hashes[-1]:
                raise ChainUnavailable(f"CHAIN_KEY or CHAIN_ID changed while {row.key} is sent")
            self._leave(row, signed)

    # --- the first time ----------------------------------------------------------------------

    def _send_first(self, row: Transaction, *, nonce: int | None = None) -> None:
        value = int(row.value_wei)
        try:
            gas = self._chain.estimate(
                sender=self._sender, to=row.to, data=bytes(row.data), value_wei=value
            )
        except CallReverted as error:
            self._refuse(row, error)
            return
        except ChainUnavailable as error:
            # One row that the node does not like must not keep the others.
            self._note(row, f"It waits: {error}.")
            return
        fees = self._chain.fees()
        row.gas = onchain.gas_limit(gas)
        row.max_fee_wei = Decimal(fees.max_fee_wei)
        row.priority_fee_wei = Decimal(fees.priority_fee_wei)
        row.nonce = self._next_nonce() if nonce is None else nonce
        self._write_and_send(row, queued=True)

    def _refuse(self, row: Transaction, error: CallReverted) -> None:
        reason = _short(f"The contract refuses it: {error.words}.")
        if row.key.startswith(ROOT) and error.name in _LATER:
            self._note(row, reason)
            return
        log.error("a transaction was refused before it was sent", key=row.key, reason=reason)
        row.state, row.reason, row.ended_at = Transaction.State.FAILED, reason, datetime.now(UTC)
        row.save(update_fields=["state", "reason", "ended_at"])
        self._ended += 1

    def _note(self, row: Transaction, reason: str) -> None:
        self._reason = reason
        if row.reason != reason:
            log.warning("a transaction waits", key=row.key, reason=reason)
            row.reason = _short(reason)
            row.save(update_fields=["reason"])

    def _next_nonce(self) -> int:
        """The first that neither the chain nor a row has."""
        rows = Transaction.objects.filter(sender=self._sender)
        taken = rows.aggregate(last=Max("nonce"))["last"]
        mined = self._chain.nonce_of(self._sender)
        return mined if taken is None else max(mined, taken + 1)

    # --- both --------------------------------------------------------------------------------

    def _signed(self, row: Transaction) -> signing.Signed:
        assert row.nonce is not None
        assert row.gas is not None
        return signing.sign(
            self._key,
            chain_id=self._chain.chain_id,
            nonce=row.nonce,
            to=row.to,
            data=bytes(row.data),
            value_wei=int(row.value_wei),
            gas=row.gas,
            max_fee_wei=int(row.max_fee_wei or 0),
            priority_fee_wei=int(row.priority_fee_wei or 0),
        )

    def _write_and_send(self, row: Transaction, *, queued: bool) -> None:
        signed = self._signed(row)
        expected = Transaction.State.QUEUED if queued else Transaction.State.SENT
        try:
            with transaction.atomic():
                changed = Transaction.objects.filter(
                    pk=row.pk, state=expected, hashes=row.hashes
                ).update(
                    state=Transaction.State.SENT,
                    sender=self._sender,
                    nonce=row.nonce,
                    gas=row.gas,
                    max_fee_wei=row.max_fee_wei,
                    priority_fee_wei=row.priority_fee_wei,
                    hashes=[*row.hashes, signed.hash],
                    attempts=row.attempts + 1,
                    sent_at=datetime.now(UTC),
                    reason="",
                )
        except IntegrityError:
            raise ChainUnavailable("another worker sends with the same nonces") from None
        if not changed:
            raise ChainUnavailable("another worker has sent it already")
        row.hashes = [*row.hashes, signed.hash]
        self._leave(row, signed)
        self._sent += queued

    def _leave(self, row: Transaction, signed: signing.Signed) -> None:
        """The bytes go out. What the node answers is looked at in the next round only: it may have
        taken them whatever it says, and the row knows all that is needed to try again."""
        try:
            self._chain.send(signed.raw)
        except (ChainUnavailable, CallReverted) as error:
            if "already known" not in str(error).lower():
                self._note(row, f"The node has not taken it yet: {error}.")


def _more(fee_wei: Decimal | None) -> int:
    """At least an eighth more, rounded up."""
    return -(-int(fee_wei or 0) * _BUMP_NUMERATOR // _BUMP_DENOMINATOR) + 1


def _short(text: str) -> str:
    return text if len(text) <= _REASON_CHARACTERS else text[: _REASON_CHARACTERS - 1] + "…"
