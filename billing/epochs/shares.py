"""The written rule of who gets what of an epoch's fees. Pure; whole base units only.

1. Fees are summed per payee, stream, share and version of the parameters.
2. Each sum's share is ``floor(sum * basis_points / 10000)``: rounded down, once, on the sum.
3. The treasury gets what all shares leave, so that shares and rest are the revenue, to the unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

BASIS_POINTS: Final = 10_000


class Payee(NamedTuple):
    """Who is paid, by what, and in which part: one line of an epoch."""

    address: str
    stream: bytes
    share: str
    parameters_version: int


@dataclass(frozen=True)
class Earned:
    """Calls and fees that a payee has a share of, and the share."""

    payee: Payee
    calls: int
    gross_base_units: int
    amount_base_units: int


@dataclass(frozen=True)
class Split:
    """An epoch's revenue, shared out: ``lines`` ordered by payee, and the treasury's rest."""

    lines: tuple[Earned, ...]
    rest_base_units: int


def share_of(fees_base_units: int, basis_points: int) -> int:
    """A share of a sum of fees, rounded down."""
    return fees_base_units * basis_points // BASIS_POINTS


def split(
    revenue_base_units: int,
    parts: Iterable[tuple[Payee, int, int]],
    basis_points: Mapping[tuple[int, str], int],
) -> Split:
    """Shares revenue out. ``parts``: payee, calls and fees; ``basis_points`` by version and share.

    Fees without a payee make no line, nor do free calls; a share that is rounded down to nothing
    makes one, so that the lines account for every fee. Raises ``ValueError`` where one kind of
    share would be given of more fees than there are, or where shares come to more than the
    revenue, and ``KeyError`` for a share that the parameters do not know.
    """
    gross: dict[Payee, tuple[int, int]] = {}
    shared: dict[str, int] = {}
    for payee, calls, fees in parts:
        if fees < 0 or calls < 0:
            raise ValueError(f"{payee.address} is credited with {calls} calls for {fees}.")
        shared[payee.share] = shared.get(payee.share, 0) + fees
        if payee.address:
            calls_before, fees_before = gross.get(payee, (0, 0))
            gross[payee] = (calls_before + calls, fees_before + fees)
    for share, fees in shared.items():
        if fees > revenue_base_units:
            raise ValueError(
                f"Shares of kind {share!r} are of {fees} base units, and the epoch took "
                f"{revenue_base_units}."
            )
    lines = []
    for payee in sorted(gross):
        calls, fees = gross[payee]
        if fees:
            amount = share_of(fees, basis_points[payee.parameters_version, payee.share])
            lines.append(Earned(payee, calls, fees, amount))
    rest = revenue_base_units - sum(line.amount_base_units for line in lines)
    if rest < 0:
        raise ValueError(f"The shares are {-rest} base units more than the epoch took.")
    return Split(tuple(lines), rest)
