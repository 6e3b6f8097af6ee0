"""Into the prepaid balance: transactions for the wallet, permits that we send, and the faucet."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction

from billing.payouts import onchain, queueing
from billing.payouts.models import FaucetGift, Transaction
from billing.payouts.transactions import UnsignedTransaction, Wanted, unsigned
from inframind.chain.contracts import Contracts
from inframind.identity.models import Wallet
from inframind.lib import calldata, secp256k1
from inframind.lib.amounts import BASE_UNITS_PER_IFM, amount_document, format_ifm
from inframind.lib.ids import new_uuid7
from inframind.lib.problem import Problem, not_found

PERMIT_SECONDS: Final = 3_600
# A deposit cannot be estimated before its approval is mined; it takes some 110,000.
_DEPOSIT_GAS: Final = 200_000
FAUCET_BASE_UNITS: Final = 100 * BASE_UNITS_PER_IFM
FAUCET_WEI: Final = 10**18
_ENOUGH_WEI: Final = 10**17
FAUCET_EVERY: Final = timedelta(hours=1)


def unsigned_deposit(wallet: Wallet, amount: int) -> list[UnsignedTransaction]:
    """The transactions that deposit ``amount`` base units: an approval where the present one is too
    small, then the deposit. Raises a ``Problem``: 422 for no amount, 409 where the wallet has less
    IFM, 503 without a chain."""
    require_amount(amount)
    with onchain.for_somebody() as contracts:
        _require_ifm(contracts, wallet, amount)
        wanted = []
        has_to_approve = contracts.allowance_of(wallet.address) < amount
        if has_to_approve:
            wanted.append(
                Wanted(
                    contracts.ifm,
                    calldata.approve(contracts.settlement, amount),
                    f"Let the settlement contract take {format_ifm(amount)}",
                )
            )
        wanted.append(
            Wanted(
                contracts.settlement,
                calldata.deposit(wallet.address, amount),
                f"Deposit {format_ifm(amount)} for {wallet.address}",
                _DEPOSIT_GAS if has_to_approve else None,
            )
        )
        return unsigned(contracts, wallet.address, wanted)


def permit_for(wallet: Wallet, amount: int) -> dict[str, Any]:
    """Typed data (EIP-712) to sign for a deposit that we send: good for an hour of the chain's
    time. Raises as ``unsigned_deposit``."""
    require_amount(amount)
    with onchain.for_somebody() as contracts:
        _require_ifm(contracts, wallet, amount)
        deadline = contracts.chain.head().time + PERMIT_SECONDS
        return _permit(contracts, wallet, amount, deadline)


def relay_deposit(wallet: Wallet, amount: int, deadline: int, signature: bytes) -> Transaction:
    """Queues a deposit by the wallet's permit, sent at our expense; once for each signature.

    Raises a ``Problem``: 422 for a permit that this wallet did not sign, or not for this, 409 where
    its time is over or the wallet has less IFM, 429 above ``RELAYS_PER_DAY``, 503 without a chain.
    """
    require_amount(amount)
    if not 0 < deadline <= calldata.UINT256_MAX:
        raise _no_permit("Its deadline is no time.")
    if len(signature) == 65 and signature[64] < 27:
        signature = signature[:64] + bytes([signature[64] + 27])
    with onchain.for_somebody() as contracts:
        key = f"deposit:{wallet.address}:{hashlib.sha256(signature).hexdigest()[:40]}"
        existing = Transaction.objects.filter(key=key).exclude(state=Transaction.State.FAILED)
        if (found := existing.first()) is not None:
            return found
        if deadline < contracts.chain.head().time:
            raise Problem(
                "permit-expired",
                "The time that was signed for is over.",
                status=409,
                remedy="Ask for a fresh permit and sign that.",
            )
        typed = _permit(contracts, wallet, amount, deadline)
        try:
            signer = secp256k1.recover(calldata.typed_data_digest(typed), signature)
        except ValueError as error:
            raise _no_permit(str(error)) from None
        if signer != wallet.address:
            raise _no_permit(
                "It is not your wallet's signature over this amount and deadline, or the wallet "
                "has signed and used another permit since."
            )
        _require_ifm(contracts, wallet, amount)
        data = calldata.deposit_with_permit(
            wallet.address, wallet.address, amount, deadline, signature
        )
        return queueing.relay(wallet=wallet, key=key, to=contracts.settlement, data=data)


def faucet(wallet: Wallet) -> Transaction:
    """Gives test IFM, and some ETH for gas where the wallet has next to none; once an hour.

    Raises a ``Problem``: 404 where there is no faucet, 429 within the hour, 503 without a chain.
    """
    if not settings.FAUCET:
        raise not_found("faucet here", "Test IFM is given away on development chains only.")
    if not onchain.can_send():
        raise onchain.unavailable()
    with onchain.for_somebody() as contracts:
        wei = contracts.chain.balance_of(wallet.address)
        if contracts.ifm_of(onchain.operator()) < FAUCET_BASE_UNITS:
            raise Problem(
                "faucet-empty",
                "The faucet has no IFM left.",
                status=503,
                remedy="Tell whoever runs this registry; nothing was lost.",
                retry_safe=True,
                retry_after_seconds=3_600,
            )
        with transaction.atomic():
            Wallet.objects.select_for_update(no_key=True).get(pk=wallet.pk)
            _require_hour_over(wallet)
            gift_id = new_uuid7()
            if wei < _ENOUGH_WEI:
                queueing.enqueue(
                    key=f"faucet:{gift_id}:eth",
                    to=wallet.address,
                    data=b"",
                    wallet=wallet,
                    value_wei=FAUCET_WEI,
                )
            row = queueing.enqueue(
                key=f"faucet:{gift_id}:ifm",
                to=contracts.ifm,
                data=calldata.transfer(wallet.address, FAUCET_BASE_UNITS),
                wallet=wallet,
            )
            FaucetGift.objects.create(
                wallet=wallet, transaction=row, amount_base_units=FAUCET_BASE_UNITS
            )
        return row


def _require_hour_over(wallet: Wallet) -> None:
    last = FaucetGift.objects.filter(wallet=wallet).order_by("-created_at").first()
    if last is None:
        return
    wait = (last.created_at + FAUCET_EVERY - datetime.now(UTC)).total_seconds()
    if wait > 0 and last.transaction.state != Transaction.State.FAILED:
        raise Problem(
            "faucet-rests",
            f"This wallet was given {format_ifm(int(last.amount_base_units))} within the hour.",
            status=429,
            remedy="Come back when the hour is over.",
            retry_safe=True,
            retry_after_seconds=max(1, int(wait)),
        )


def require_amount(amount: int) -> None:
    """Raises a 422 ``Problem`` for what nothing can be paid with."""
    if not 0 < amount <= calldata.UINT256_MAX:
        raise Problem(
            "amount-refused",
            f"{format_ifm(amount) if abs(amount) < 1 << 300 else 'This'} cannot be moved.",
            status=422,
            remedy='Give an amount above zero, like "2.5 IFM".',
        )


def _require_ifm(contracts: Contracts, wallet: Wallet, amount: int) -> None:
    has = contracts.ifm_of(wallet.address)
    if has < amount:
        raise Problem(
            "too-little-ifm",
            f"{wallet.address} has {format_ifm(has)} on chain, and this deposits "
            f"{format_ifm(amount)}.",
            status=409,
            remedy="Deposit less, or bring more IFM to the wallet first."
            + (
                " Test IFM is free here: Get test IFM at /account/balance, or --faucet of "
                "`infra deposit`."
                if settings.FAUCET
                else ""
            ),
            extra={"on_chain": amount_document(has)},
        )


def _permit(contracts: Contracts, wallet: Wallet, amount: int, deadline: int) -> dict[str, Any]:
    return calldata.permit_typed_data(
        chain_id=contracts.chain.chain_id,
        ifm=contracts.ifm,
        owner=wallet.address,
        spender=contracts.settlement,
        amount=amount,
        nonce=contracts.permit_nonce_of(wallet.address),
        deadline=deadline,
    )


def _no_permit(detail: str) -> Problem:
    return Problem(
        "permit-refused",
        f"The permit is not good for this deposit. {detail}",
        status=422,
        remedy="Ask for the permit again, sign it unchanged, and send amount, deadline and "
        "signature as they are.",
    )
