"""An auditor of a crashed marketplace, who reads tables and logs and asks none of our rules."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from eth_utils.crypto import keccak
from psycopg import sql

from tests.journeys.callers import Callers
from tests.journeys.crashing import Crashing

FEE = 10**16
_CREDITED = sql.SQL("SELECT code, posted_base_units FROM ledger_account WHERE kind = 'wallet'")
_CALLS = sql.SQL(
    "SELECT id::text, wallet_id, outcome, fee_base_units, input_digest, epoch FROM gateway_call"
)
_BALANCES = sql.SQL(
    "SELECT code, posted_base_units - charged_base_units - coalesce((SELECT sum(spent_base_units)"
    " FROM ledger_lease lease WHERE lease.account_id = account.id), 0)"
    " FROM ledger_account account WHERE kind = 'wallet'"
)
_CHARGED = sql.SQL(
    "SELECT coalesce(sum(amount_base_units), 0) FROM ledger_transfer WHERE reason = 'charge'"
)
_POSTED_FEES = sql.SQL(
    "SELECT coalesce(sum(fee_base_units), 0) FROM gateway_call"
    " JOIN epochs_epoch epoch ON epoch.number = epoch WHERE epoch.state <> 'open'"
)
_EPOCHS = sql.SQL("SELECT number, state, root IS NULL FROM epochs_epoch ORDER BY number")
_PROPOSED = "0x" + keccak(text="RootProposed(uint64,bytes32,uint256,string,uint64)").hex()


@dataclass(frozen=True)
class Audit:
    """``lost``: answered and not written down so. ``doubled``: one wish, charged more than once.
    ``differences``: what books, calls and chain say differently."""

    lost: list[str]
    doubled: list[str]
    differences: list[str]
    epochs: int


def await_balances(crashing: Crashing, wanted: Mapping[str, int]) -> None:
    """Until the deposits are credited. Raises AssertionError after a minute."""
    deadline = time.monotonic() + 60
    goal = {f"wallet:{wallet}": amount for wallet, amount in wanted.items()}
    while (found := dict(crashing.rows(_CREDITED))) != goal:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def await_claimable(crashing: Crashing, *, timeout_seconds: float) -> None:
    """Until every closed epoch that has anything to claim is claimable on chain."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        epochs = crashing.rows(_EPOCHS)
        ends = {"claimable"}
        open_ones = [
            (number, state)
            for number, state, is_empty in epochs[:-1]
            if state not in ends and not (is_empty and state == "sealed")
        ]
        if not open_ones:
            return
        assert time.monotonic() < deadline, open_ones
        time.sleep(0.5)


def audit(crashing: Crashing, callers: Callers, deposits: Mapping[str, int]) -> Audit:
    """Everything that has to be so once all has come to rest."""
    calls = crashing.rows(_CALLS)
    served = {row[0]: row for row in calls if row[2] == "served"}
    lost = [
        f"{each.wish}: {each.receipt}"
        for each in callers.answered.values()
        if (row := served.get(each.receipt)) is None
        or (row[1], int(row[3]), row[4]) != (each.wish.wallet, FEE, each.wish.digest)
    ]
    by_wish: dict[str, list[str]] = defaultdict(list)
    for row in served.values():
        by_wish[row[4]].append(row[0])
    doubled = [f"{wish}: {ids}" for wish, ids in by_wish.items() if len(ids) > 1]
    differences = [
        *_against_balances(crashing, served.values(), deposits),
        *_against_transfers(crashing),
        *_against_chain(crashing),
        *(f"{row} costs and was not served" for row in calls if row[2] != "served" and row[3]),
    ]
    reconciled = crashing.manage("reconcile")
    if reconciled.status != 0:
        differences.append(f"reconcile: {reconciled.stdout}{reconciled.stderr}")
    return Audit(lost, doubled, differences, len(crashing.rows(_EPOCHS)))


def _against_balances(crashing: Crashing, served: object, deposits: Mapping[str, int]) -> list[str]:
    spent: dict[str, int] = defaultdict(int)
    for row in served:  # type: ignore[attr-defined]
        spent[row[1]] += int(row[3])
    balances = {code: int(amount) for code, amount in crashing.rows(_BALANCES)}
    return [
        f"{wallet} deposited {amount}, was charged {spent[wallet]}, has {balances[code]}"
        for wallet, amount in deposits.items()
        if balances[code := f"wallet:{wallet}"] != amount - spent[wallet] or balances[code] < 0
    ]


def _against_transfers(crashing: Crashing) -> list[str]:
    [(charged,)], [(fees,)] = crashing.rows(_CHARGED), crashing.rows(_POSTED_FEES)
    return [] if charged == fees else [f"{charged} charged for closed epochs' fees of {fees}"]


def _against_chain(crashing: Crashing) -> list[str]:
    """Exactly one root for each closed epoch that has one."""
    logs = crashing.anvil.ask(
        "eth_getLogs",
        {
            "fromBlock": hex(crashing.contracts.block),
            "toBlock": "latest",
            "address": crashing.contracts.settlement,
            "topics": [_PROPOSED],
        },
    )
    proposed = sorted(int(each["topics"][1], 16) for each in logs)
    wanted = [
        number
        for number, state, is_empty in crashing.rows(_EPOCHS)
        if state != "open" and not is_empty
    ]
    return [] if proposed == wanted else [f"roots of {proposed} on chain, epochs {wanted}"]
