"""Out of the prepaid balance: a hold in the books, and a voucher that the contract pays.

A voucher is good until its deadline by the chain's clock, so its hold ends there as well: when the
follower has booked a block whose time is past the deadline, without the payment in it.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction

from billing.ledger import codes
from billing.ledger import services as ledger
from billing.ledger.models import Reason
from billing.ledger.services import HoldRequest
from billing.payouts import booking, onchain, queueing
from billing.payouts.deposits import require_amount
from billing.payouts.models import Cursor, Transaction, Withdrawal
from billing.payouts.transactions import UnsignedTransaction, Wanted, unsigned
from inframind.chain.client import ChainUnavailable
from inframind.identity.models import Wallet
from inframind.lib import calldata, secp256k1
from inframind.lib.amounts import format_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem

_ONE_AT_A_TIME: Final = "withdrawal_one_at_a_time"


def begin_withdrawal(wallet: Wallet, amount: int) -> Withdrawal:
    """Sets ``amount`` base units of the balance aside and signs the voucher that releases them.

    Raises a ``Problem``: 402 where less is available, 409 while another is open, above what all
    may withdraw today, or before the books have caught up with the chain, 503 without a chain.
    """
    require_amount(amount)
    with onchain.for_somebody() as contracts:
        if not onchain.can_send() or _is_halted():
            raise onchain.unavailable()
        _require_none_open(wallet)
        left = contracts.withdrawable_today()
        if amount > left:
            raise Problem(
                "withdrawals-capped",
                f"All withdrawals of a day (UTC) together are capped, and {format_ifm(left)} are "
                "left of today's.",
                status=409,
                remedy="Withdraw less, or try again tomorrow.",
                retry_safe=True,
            )
        before = booking.last_withdrawn(wallet.address)
        if contracts.withdrawn(wallet.address) != before:
            raise Problem(
                "withdrawal-unconfirmed",
                "The last withdrawal was paid on chain and waits for its confirmations.",
                status=409,
                remedy="Try again in a minute.",
                retry_safe=True,
                retry_after_seconds=30,
            )
        deadline = contracts.chain.head().time + settings.WITHDRAWAL_HOURS * 3_600
        cumulative = before + amount
        typed = calldata.withdrawal_typed_data(
            chain_id=contracts.chain.chain_id,
            settlement=contracts.settlement,
            account=wallet.address,
            cumulative=cumulative,
            deadline=deadline,
        )
        signature = secp256k1.sign(onchain.key(), calldata.typed_data_digest(typed))
    row = Withdrawal(
        wallet=wallet,
        hold_id=new_uuid7(),
        amount_base_units=amount,
        cumulative_base_units=cumulative,
        deadline=booking.at(deadline),
        signature=signature,
    )
    try:
        with transaction.atomic():
            ledger.hold([_hold_of(row, amount)])
            # Under the lock of the wallet's account: what it has withdrawn cannot change now.
            if booking.last_withdrawn(wallet.address) != before:
                raise _in_between()
            row.save()
    except IntegrityError as error:
        if _ONE_AT_A_TIME not in str(error):
            raise
        raise _one_open() from None
    return row


def unsigned_withdrawal(withdrawal: Withdrawal) -> UnsignedTransaction:
    """The transaction that pays it, for its wallet to send. Raises a ``Problem``: 409 where it is
    over, or the contract refuses, 503 without a chain."""
    _require_open(withdrawal)
    with onchain.for_somebody() as contracts:
        what = f"Withdraw {format_ifm(int(withdrawal.amount_base_units))} to {withdrawal.wallet_id}"
        wanted = Wanted(contracts.settlement, _call(withdrawal), what)
        return unsigned(contracts, withdrawal.wallet_id, [wanted])[0]


def relay_withdrawal(withdrawal: Withdrawal) -> Transaction:
    """Queues the transaction that pays it, at our expense; once. Raises as ``unsigned_withdrawal``,
    and a 429 ``Problem`` above ``RELAYS_PER_DAY``."""
    _require_open(withdrawal)
    with onchain.for_somebody() as contracts:
        return queueing.relay(
            wallet=withdrawal.wallet,
            key=f"withdrawal:{withdrawal.pk}",
            to=contracts.settlement,
            data=_call(withdrawal),
        )


def expire_withdrawals() -> int:
    """Ends withdrawals whose vouchers the chain takes no more; how many.

    By the time of the block that was booked last: the follower does the same in each round. Raises
    a 503 ``Problem`` where the chain does not tell it.
    """
    with onchain.for_somebody() as contracts, transaction.atomic():
        cursor = Cursor.objects.select_for_update().filter(pk=contracts.settlement).first()
        if cursor is None or cursor.state == Cursor.State.HALTED:
            return 0
        block = contracts.chain.block(cursor.block_number)
        if block is None or block.hash != cursor.block_hash:
            raise ChainUnavailable(f"the node has not block {cursor.block_number} as it was read")
        return booking.expire(chain_time=booking.at(block.time))


def _hold_of(row: Withdrawal, amount: int) -> HoldRequest:
    # Without an end of its own: only the chain's clock says when the voucher is void.
    return HoldRequest(
        row.hold_id,
        codes.wallet_code(row.wallet_id),
        codes.CHAIN,
        amount,
        Reason.WITHDRAWAL,
        f"withdrawal:{row.pk}",
    )


def _call(withdrawal: Withdrawal) -> bytes:
    return calldata.withdraw(
        withdrawal.wallet_id,
        int(withdrawal.cumulative_base_units),
        int(withdrawal.deadline.timestamp()),
        bytes(withdrawal.signature),
    )


def _is_halted() -> bool:
    return Cursor.objects.filter(state=Cursor.State.HALTED).exists()


def _require_none_open(wallet: Wallet) -> None:
    if Withdrawal.objects.filter(wallet=wallet, state=Withdrawal.State.OPEN).exists():
        raise _one_open()


def _require_open(withdrawal: Withdrawal) -> None:
    if withdrawal.state != Withdrawal.State.OPEN:
        raise Problem(
            "withdrawal-over",
            f"This withdrawal is {withdrawal.get_state_display().lower()}.",
            status=409,
            remedy="Begin another one.",
        )


def _one_open() -> Problem:
    return Problem(
        "withdrawal-open",
        "Another withdrawal of this wallet is open.",
        status=409,
        remedy="Send its transaction, or wait until its voucher ends; its amount is then available "
        "again.",
    )


def _in_between() -> Problem:
    return Problem(
        "withdrawal-unconfirmed",
        "A withdrawal of this wallet was confirmed at this very moment. Nothing was set aside.",
        status=409,
        remedy="Try again.",
        retry_safe=True,
    )
