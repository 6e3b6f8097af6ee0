"""Earnings: from the claimable root to the contract, by the wallet or at our expense."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from billing.epochs import queries as epochs
from billing.epochs.models import Epoch
from billing.payouts import onchain, queueing
from billing.payouts.models import Transaction
from billing.payouts.queries import claims_of
from billing.payouts.transactions import UnsignedTransaction, Wanted, unsigned
from inframind.chain.contracts import Contracts
from inframind.identity.models import Wallet
from inframind.lib import calldata
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem

CLAIMS_A_TRANSACTION: Final = 50


@dataclass(frozen=True)
class Claimable:
    """What a wallet can claim from a stream right now; amounts in base units."""

    stream: bytes
    subject: str
    cumulative_base_units: int
    amount_base_units: int
    proof: tuple[bytes, ...]


def claimable_epoch() -> int | None:
    """The epoch that the contract pays by, as far as it is confirmed; None before the first."""
    state = Epoch.State.CLAIMABLE
    return (
        Epoch.objects.filter(state=state)
        .order_by("-number")
        .values_list("number", flat=True)
        .first()
    )


def claimable(
    address: str, streams: Sequence[bytes] | None = None, *, number: int | None = None
) -> list[Claimable]:
    """What an address can claim, the largest first; of these streams alone where named.

    ``number``: by the root of this epoch, else by that of ``claimable_epoch``.
    """
    number = claimable_epoch() if number is None else number
    if number is None:
        return []
    claimed = claims_of(address)
    found = []
    for reward in epochs.rewards_of(address, epoch=number, streams=streams):
        left = reward.cumulative_base_units - claimed.get(reward.stream_hex, 0)
        if reward.proven and left > 0:
            found.append(
                Claimable(
                    reward.stream,
                    reward.subject,
                    reward.cumulative_base_units,
                    left,
                    reward.proof,
                )
            )
    return sorted(found, key=lambda each: (-each.amount_base_units, each.stream))


def unsigned_claim(
    wallet: Wallet, streams: Sequence[bytes] | None = None
) -> list[UnsignedTransaction]:
    """The transactions that claim everything that the wallet can claim, some dozens of streams
    each. Raises a ``Problem``: 409 where there is nothing, 503 without a chain."""
    with onchain.for_somebody() as contracts:
        found = _unpaid(contracts, wallet, streams)
        parts = [
            found[start : start + CLAIMS_A_TRANSACTION]
            for start in range(0, len(found), CLAIMS_A_TRANSACTION)
        ]
        return unsigned(
            contracts,
            wallet.address,
            [Wanted(contracts.settlement, _call(wallet, part), _words(part)) for part in parts],
        )


def relay_claim(wallet: Wallet, streams: Sequence[bytes] | None = None) -> Transaction:
    """Queues the claim of the largest of what can be claimed, at our expense; once for the same.

    Raises a ``Problem``: 409 where there is nothing, 429 above ``RELAYS_PER_DAY``, 503 without a
    chain.
    """
    with onchain.for_somebody() as contracts:
        found = _unpaid(contracts, wallet, streams)[:CLAIMS_A_TRANSACTION]
        data = _call(wallet, found)
        return queueing.relay(
            wallet=wallet,
            key=f"claim:{wallet.address}:{hashlib.sha256(data).hexdigest()[:40]}",
            to=contracts.settlement,
            data=data,
        )


def _unpaid(
    contracts: Contracts, wallet: Wallet, streams: Sequence[bytes] | None
) -> list[Claimable]:
    """What can be claimed and is not paid yet, unconfirmed payments looked at as well."""
    number = contracts.root_epoch()
    root = Epoch.objects.filter(pk=number).values_list("root", flat=True).first()
    # The contract's root may be ahead of what is confirmed, and only its proofs are good there.
    known = root is not None and bytes(root) == contracts.root_of(number).root
    found = [
        each
        for each in claimable(wallet.address, streams, number=number if known else None)
        if contracts.claimed(wallet.address, each.stream) < each.cumulative_base_units
    ]
    if not found:
        raise Problem(
            "nothing-to-claim",
            "Nothing can be claimed at the moment: what was earned is claimed already, or waits "
            "for its epoch's root to be claimable.",
            status=409,
            remedy="See /account/earnings for when the next root is due.",
        )
    return found


def _call(wallet: Wallet, claims: Sequence[Claimable]) -> bytes:
    return calldata.claim_many(
        [(wallet.address, each.stream, each.cumulative_base_units, each.proof) for each in claims]
    )


def _words(claims: Sequence[Claimable]) -> str:
    total = sum(each.amount_base_units for each in claims)
    streams = "stream" if len(claims) == 1 else "streams"
    return f"Claim {format_ifm(total)} from {len(claims)} {streams}"
