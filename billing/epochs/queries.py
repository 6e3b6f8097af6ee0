"""What is asked of epochs: which there are, what a payee earned, and the proofs of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from django.db.models import Count, Q, QuerySet, Sum

from billing.epochs.models import BASIS_POINTS, Epoch, Line, Parameters, Standing, Stream, Tree
from billing.epochs.opening import latest_parameters
from billing.ledger import codes
from billing.ledger import queries as ledger
from billing.ledger.models import Account, Transfer
from billing.ledger.services import transfer_id
from inframind.lib import merkle
from inframind.lib.problem import not_found

__all__ = [
    "Earning",
    "Reward",
    "epoch",
    "epochs",
    "latest_parameters",
    "latest_sealed",
    "lines_of",
    "proof",
    "rewards_of",
    "standings_of",
    "summary_of",
]

# A tree of 100,000 leaves takes some 40 MB as Python holds it.
_TREES_KEPT: Final = 3
_NUMBER_MAX: Final = 2**63 - 1
_UNSEALED: Final = (Epoch.State.OPEN, Epoch.State.CLOSING)


@dataclass(frozen=True)
class Earning:
    """A line of one epoch: a share of ``gross_base_units`` that ``calls`` brought in."""

    epoch: int
    share: str
    parameters_version: int
    basis_points: int
    calls: int
    gross_base_units: int
    amount_base_units: int


@dataclass(frozen=True)
class Reward:
    """What a payee has earned by a stream up to an epoch, with the proof that its root says so.

    ``cumulative_base_units`` is what the leaf says; ``pending_base_units`` what epochs sealed after
    it added. ``proof`` is empty where the epoch's tree has no such leaf, and also for a tree of
    one: ``proven`` tells which. ``earnings`` are all lines of sealed epochs, the newest first.
    """

    stream: bytes
    subject: str
    hidden: bool
    epoch: int | None
    root: bytes | None
    cumulative_base_units: int
    pending_base_units: int
    proven: bool
    proof: tuple[bytes, ...]
    earnings: tuple[Earning, ...]

    @property
    def stream_hex(self) -> str:
        return "0x" + self.stream.hex()


@dataclass(frozen=True)
class Summary:
    """How an epoch's revenue was shared out: lines beside what the ledger moved."""

    payees: int
    lines: int
    charged_base_units: int
    shared_base_units: int
    rest_base_units: int
    left_base_units: int  # in the epoch's account, where nothing should be

    @property
    def adds_up(self) -> bool:
        """Whether shares and rest are what was charged, to the unit, with nothing left over."""
        return (
            self.charged_base_units == self.shared_base_units + self.rest_base_units
            and self.left_base_units == 0
        )


def epochs() -> QuerySet[Epoch]:
    """All of them, the newest first."""
    return Epoch.objects.order_by("-number")


def epoch(number: int) -> Epoch:
    """Raises a 404 ``Problem`` where there is no such epoch."""
    found = Epoch.objects.filter(number=number).first() if 0 <= number <= _NUMBER_MAX else None
    if found is None:
        raise not_found("epoch with this number")
    return found


def summary_of(number: int) -> Summary:
    """How an epoch's revenue was shared out, from its lines and from the ledger's transfers."""
    lines = Line.objects.filter(epoch_id=number).aggregate(
        payees=Count("address", distinct=True), lines=Count("pk"), sum=Sum("amount_base_units")
    )
    code = codes.epoch_code(number)
    account = Account.objects.filter(code=code).first()
    charged = Transfer.objects.filter(credit=account).aggregate(sum=Sum("amount_base_units"))
    rest = Transfer.objects.filter(pk=transfer_id("rest", str(number)), debit=account)
    return Summary(
        payees=lines["payees"],
        lines=lines["lines"],
        charged_base_units=int(charged["sum"] or 0),
        shared_base_units=int(lines["sum"] or 0),
        rest_base_units=sum(int(each.amount_base_units) for each in rest),
        left_base_units=ledger.posted_of(code),
    )


def latest_sealed() -> Epoch | None:
    """The newest epoch that has its tree, whether or not its root is on chain."""
    return Epoch.objects.exclude(state__in=_UNSEALED).order_by("-number").first()


def lines_of(address: str) -> QuerySet[Line]:
    """What a payee earned in sealed epochs, the newest first; streams and parameters beside."""
    return (
        Line.objects.filter(address=address)
        .exclude(epoch__state__in=_UNSEALED)
        .select_related("stream", "parameters")
        .order_by("-epoch_id", "stream__subject", "share")
    )


def standings_of(address: str) -> QuerySet[Standing]:
    """What a payee has earned in all, by stream."""
    return Standing.objects.filter(address=address).select_related("stream").order_by("stream_id")


def proof(number: int, address: str, stream: bytes) -> tuple[int, list[bytes]]:
    """The cumulative amount of a payee's leaf in a sealed epoch's tree, and its proof.

    Raises a 404 ``Problem`` where that tree has no such leaf.
    """
    cumulative = _cumulative(number, address, [stream]).get(stream, 0)
    found = _proof_in(number, address, stream, cumulative)
    if found is None:
        raise not_found("such leaf in that epoch's tree")
    return cumulative, found


def rewards_of(
    address: str, *, epoch: int | None, streams: Iterable[bytes] | None = None
) -> list[Reward]:
    """What a payee has earned, by stream, with proofs against the root of ``epoch``.

    ``epoch``: a sealed one, as a rule the one that the contract pays by; None where it pays by
    none yet, and then everything is pending. ``streams``: those alone.
    """
    lines = lines_of(address)
    if streams is not None:
        lines = lines.filter(stream_id__in=list(streams))
    by_stream: dict[bytes, list[Line]] = {}
    for line in lines:
        by_stream.setdefault(bytes(line.stream_id), []).append(line)
    root = None
    if epoch is not None:
        root = Epoch.objects.filter(number=epoch).values_list("root", flat=True).first()
    rewards = []
    for stream, earned in by_stream.items():
        total = sum(int(line.amount_base_units) for line in earned)
        claimable = sum(
            int(line.amount_base_units)
            for line in earned
            if epoch is not None and line.epoch_id <= epoch
        )
        found = None if epoch is None else _proof_in(epoch, address, stream, claimable)
        rewards.append(
            Reward(
                stream=stream,
                subject=earned[0].stream.subject,
                hidden=earned[0].stream.hidden,
                epoch=epoch,
                root=None if root is None else bytes(root),
                cumulative_base_units=claimable,
                pending_base_units=total - claimable,
                proven=found is not None,
                proof=tuple(found or ()),
                earnings=tuple(map(_earning, earned)),
            )
        )
    return sorted(rewards, key=lambda reward: reward.subject)


def streams_named(text: str) -> list[bytes]:
    """The ids of the streams that ``text`` may mean: 0x and 64 digits, or a subject's name.

    ``summarizer-v1`` means ``model:summarizer-v1`` too.
    """
    if text.startswith("0x") and len(text) == 66:
        try:
            return [bytes.fromhex(text[2:])]
        except ValueError:
            return []
    named = Q(subject=text) | Q(subject=f"model:{text}")
    return [bytes(each) for each in Stream.objects.filter(named).values_list("id", flat=True)]


def shares_of(parameters: Parameters) -> dict[str, int]:
    """Basis points by share, the treasury's included."""
    node, owner = parameters.node_basis_points, parameters.owner_basis_points
    return {"node": node, "owner": owner, "treasury": BASIS_POINTS - node - owner}


def _earning(line: Line) -> Earning:
    return Earning(
        epoch=line.epoch_id,
        share=line.share,
        parameters_version=line.parameters_id,
        basis_points=shares_of(line.parameters).get(line.share, 0),
        calls=line.calls,
        gross_base_units=int(line.gross_base_units),
        amount_base_units=int(line.amount_base_units),
    )


def _cumulative(number: int, address: str, streams: Iterable[bytes]) -> dict[bytes, int]:
    rows = (
        Line.objects.filter(address=address, stream_id__in=list(streams), epoch_id__lte=number)
        .values_list("stream_id")
        .annotate(sum=Sum("amount_base_units"))
    )
    return {bytes(stream): int(amount) for stream, amount in rows}


def _proof_in(number: int, address: str, stream: bytes, cumulative: int) -> list[bytes] | None:
    if not cumulative:
        return None
    tree = tree_of(number)
    if tree is None:
        return None
    try:
        return tree.proof_of(merkle.leaf_of(address, stream, cumulative))
    except KeyError:
        return None


def tree_of(number: int) -> merkle.Tree | None:
    """The tree of a sealed epoch; None where it is not sealed."""
    try:
        return _sealed_tree(number)
    except Tree.DoesNotExist:
        return None


@lru_cache(maxsize=_TREES_KEPT)
def _sealed_tree(number: int) -> merkle.Tree:
    # A sealed tree never changes. A failure is not remembered.
    return merkle.Tree.from_nodes(bytes(Tree.objects.get(epoch_id=number).nodes))


def forget_trees() -> None:
    """Empties the cache of trees: for whoever exchanges the database under a running process."""
    _sealed_tree.cache_clear()
