"""From open to sealed, in steps that each hold or do not: run again, they go on where they were.

A step locks the epoch's row, looks whether its work is there already, and commits it whole. A
closer that dies leaves the epoch ``closing``; whoever comes next starts from the first step, and
those that are done find nothing to do. Two at once take turns at the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from django.db import connection, transaction
from django.db.models import QuerySet, Sum

from billing.epochs import dumps, opening, signals, sources, streams
from billing.epochs.models import Epoch, Line, Parameters, Standing, Tree
from billing.epochs.shares import Payee, Split, split
from billing.ledger import codes
from billing.ledger import queries as ledger
from billing.ledger.models import Reason
from billing.ledger.services import Posting, post, transfer_id
from inframind.lib import merkle
from inframind.lib.problem import Problem

# Wallets' rows stay locked while their charges are posted, and calls wait for them.
_CHARGES_AT_ONCE: Final = 500
_LINES_AT_ONCE: Final = 5_000


class Elsewhere(Exception):
    """Another closer has the epoch at this moment."""


def drive(number: int, *, wait: bool = True) -> None:
    """Takes an epoch down to its sealed root, from wherever it is.

    ``wait``: for another closer at the same epoch, else raises ``Elsewhere``. Raises a 409
    ``Problem`` where the epoch does not add up or an earlier one is not sealed, StoreUnavailable.
    """
    for step in STEPS:
        step(number, wait)


def shut(number: int, wait: bool = True) -> None:
    """Lets nothing into the epoch any more, and opens the next in the same moment.

    Always waits, whatever ``wait`` says: under load some batch of calls is in at any moment.
    """
    if Epoch.objects.filter(number=number).exclude(state=Epoch.State.OPEN).exists():
        return
    with transaction.atomic():
        # Calls stand still while nobody is let in: room is made for the next ones before that.
        sources.receipts().prepare(number + 1)
    with transaction.atomic():
        opening.let_nobody_in()
        epoch = _locked(number, True)
        if epoch.state != Epoch.State.OPEN:
            return
        epoch.closed_at = opening.database_time()
        epoch.state = Epoch.State.CLOSING
        epoch.save(update_fields=["state", "closed_at"])
        opening.open_next(number + 1, at=epoch.closed_at)


def keep_receipts(number: int, wait: bool = True) -> None:
    """Publishes the epoch's receipts, and holds them against what the wallets owe."""
    with transaction.atomic():
        epoch = _locked(number, wait)
        if epoch.state != Epoch.State.CLOSING or epoch.receipts_cid:
            return
        try:
            kept = dumps.keep_receipts(number, sources.receipts().batches(number))
        except RuntimeError as error:
            raise _broken(number, f"a receipt is not what was signed ({error})") from error
        owed = sum(charge.fees_base_units for charge in sources.receipts().charges(number))
        if kept.fees_base_units != owed:
            raise _broken(
                number, f"its receipts come to {kept.fees_base_units}, its wallets owe {owed}"
            )
        epoch.batch_count = kept.batches
        epoch.receipt_count = kept.count
        epoch.revenue_base_units = kept.fees_base_units
        epoch.receipts_root = kept.root
        epoch.receipts_cid = kept.cid
        epoch.save(
            update_fields=[
                "batch_count",
                "receipt_count",
                "revenue_base_units",
                "receipts_root",
                "receipts_cid",
            ]
        )


def post_charges(number: int, wait: bool = True) -> None:
    """Moves what each wallet owes into the epoch's account."""
    if _is_past_closing(number):
        return
    with transaction.atomic():
        charges = sorted(
            (charge.wallet, charge.fees_base_units)
            for charge in sources.receipts().charges(number)
            if charge.fees_base_units
        )
    postings = [
        Posting(
            id=transfer_id("charge", str(number), wallet),
            debit=codes.wallet_code(wallet),
            credit=codes.epoch_code(number),
            amount_base_units=fees,
            reason=Reason.CHARGE,
            subject=f"epoch:{number}",
        )
        for wallet, fees in charges
    ]
    _post(number, wait, postings, _CHARGES_AT_ONCE, charged=True)


def draw_lines(number: int, wait: bool = True) -> None:
    """Writes down what each payee earns, and how it was worked out."""
    if _is_past_closing(number) or lines_of(number).exists():
        return
    with transaction.atomic():
        epoch = _locked(number, wait)
        if epoch.state != Epoch.State.CLOSING or lines_of(number).exists():
            return
        drawn = _drawn(number, int(epoch.revenue_base_units))
        with (
            connection.cursor() as cursor,
            cursor.copy(
                "COPY epochs_line (epoch_id, address, stream_id, share, parameters_id, calls,"
                " gross_base_units, amount_base_units) FROM STDIN"
            ) as copy,
        ):
            for line in drawn.lines:
                copy.write_row((number, *line.payee, line.calls, line.gross_base_units,
                                line.amount_base_units))  # fmt: skip


def pay_lines(number: int, wait: bool = True) -> None:
    """Moves each line's amount to what is owed to its payee, and the rest to the treasury."""
    epoch = Epoch.objects.get(number=number)
    if epoch.state != Epoch.State.CLOSING:
        return
    postings = [
        Posting(
            id=transfer_id(
                "share",
                str(number),
                line.address,
                bytes(line.stream_id).hex(),
                line.share,
                str(line.parameters_id),
            ),
            debit=codes.epoch_code(number),
            credit=codes.owed_code(line.address, bytes(line.stream_id)),
            amount_base_units=int(line.amount_base_units),
            reason=Reason.SHARE,
            subject=f"epoch:{number}",
        )
        for line in lines_of(number).filter(amount_base_units__gt=0).order_by("pk")
    ]
    rest = int(epoch.revenue_base_units) - shared_of(number)
    if rest < 0:
        raise _broken(number, f"its lines share {-rest} more than it took")
    if rest:
        postings.append(
            Posting(
                id=transfer_id("rest", str(number)),
                debit=codes.epoch_code(number),
                credit=codes.TREASURY,
                amount_base_units=rest,
                reason=Reason.REST,
                subject=f"epoch:{number}",
            )
        )
    _post(number, wait, postings, _LINES_AT_ONCE)
    left = ledger.posted_of(codes.epoch_code(number))
    if left:
        raise _broken(number, f"{left} are left in its account after everybody was paid")


def raise_standings(number: int, wait: bool = True) -> None:
    """Adds the epoch's lines to what their payees have earned in all."""
    with transaction.atomic():
        epoch = _locked(number, wait)
        if epoch.state != Epoch.State.CLOSING:
            return
        _require_earlier_sealed(number)
        with connection.cursor() as cursor:
            # An epoch that a standing has already is not added again.
            cursor.execute(
                """
                INSERT INTO epochs_standing AS standing
                    (address, stream_id, cumulative_base_units, epoch_id)
                SELECT address, stream_id, sum(amount_base_units), %(epoch)s
                FROM epochs_line WHERE epoch_id = %(epoch)s
                GROUP BY address, stream_id HAVING sum(amount_base_units) > 0
                ORDER BY address, stream_id
                ON CONFLICT (address, stream_id) DO UPDATE
                SET cumulative_base_units =
                        standing.cumulative_base_units + excluded.cumulative_base_units,
                    epoch_id = excluded.epoch_id
                WHERE standing.epoch_id < excluded.epoch_id
                """,
                {"epoch": number},
            )


def seal(number: int, wait: bool = True) -> None:
    """Builds the tree of all standings, publishes it, and seals the epoch with its root."""
    with transaction.atomic():
        epoch = _locked(number, wait)
        if epoch.state != Epoch.State.CLOSING:
            return
        _require_earlier_sealed(number)
        left = ledger.posted_of(codes.epoch_code(number))
        if left:
            raise _broken(number, f"{left} are left in its account")
        previous = Epoch.objects.filter(number__lt=number).order_by("-number").first()
        values = _standings()
        _check_nothing_fell(number, previous, values)
        tree = merkle.Tree.of(merkle.leaves_of(values))
        total = sum(cumulative for _, _, cumulative in values)
        facts = {
            "epoch": number,
            "total": str(total),
            "receipts_root": "0x" + bytes(epoch.receipts_root or b"").hex(),
            "receipts_cid": epoch.receipts_cid,
            "revenue": str(epoch.revenue_base_units),
            "previous": previous.tree_cid if previous else None,
        }
        used = Parameters.objects.filter(
            version__in=lines_of(number).values("parameters_id")
        ).order_by("version")
        epoch.tree_cid = dumps.keep_tree(tree, values, _told(number), used, facts)
        epoch.root = tree.root if values else None
        epoch.leaf_count = len(values)
        epoch.total_base_units = total
        epoch.sealed_at = opening.database_time()
        epoch.state = Epoch.State.SEALED
        Tree.objects.create(epoch=epoch, nodes=tree.nodes)
        epoch.save(
            update_fields=[
                "tree_cid",
                "root",
                "leaf_count",
                "total_base_units",
                "sealed_at",
                "state",
            ]
        )
        transaction.on_commit(
            lambda: signals.epoch_sealed.send_robust(sender=Epoch, number=number), robust=True
        )


STEPS: Final[tuple[Callable[[int, bool], None], ...]] = (
    shut,
    keep_receipts,
    post_charges,
    draw_lines,
    pay_lines,
    raise_standings,
    seal,
)


def lines_of(number: int) -> QuerySet[Line]:
    return Line.objects.filter(epoch_id=number)


def shared_of(number: int) -> int:
    """What an epoch's lines give away, in base units."""
    return int(lines_of(number).aggregate(sum=Sum("amount_base_units"))["sum"] or 0)


def _locked(number: int, wait: bool) -> Epoch:
    rows = Epoch.objects.select_for_update(skip_locked=not wait)
    epoch = rows.filter(number=number).first()
    if epoch is None:
        raise Elsewhere(f"Epoch {number} is being closed by another process.")
    return epoch


def _is_past_closing(number: int) -> bool:
    return Epoch.objects.get(number=number).state != Epoch.State.CLOSING


def _post(
    number: int,
    wait: bool,
    postings: Sequence[Posting],
    at_once: int,
    *,
    charged: bool = False,
) -> None:
    for start in range(0, len(postings), at_once):
        with transaction.atomic():
            if _locked(number, wait).state != Epoch.State.CLOSING:
                return
            post(postings[start : start + at_once], charged=charged)


def _drawn(number: int, revenue_base_units: int) -> Split:
    rows = list(sources.receipts().revenue(number))
    ids = streams.ids_of({row.subject: row.hidden for row in rows if row.fees_base_units})
    basis_points = {}
    for each in Parameters.objects.all():
        basis_points[each.version, Line.Share.OWNER.value] = each.owner_basis_points
        basis_points[each.version, Line.Share.NODE.value] = each.node_basis_points
    try:
        return split(
            revenue_base_units,
            (
                (
                    Payee(row.address, ids[row.subject], row.share, row.parameters_version),
                    row.calls,
                    row.fees_base_units,
                )
                for row in rows
                if row.fees_base_units
            ),
            basis_points,
        )
    except (ValueError, KeyError) as error:
        raise _broken(number, f"its fees cannot be shared out ({error})") from error


def _standings() -> list[tuple[str, bytes, int]]:
    rows = Standing.objects.values_list("address", "stream_id", "cumulative_base_units")
    return sorted(
        (address, bytes(stream), int(cumulative))
        for address, stream, cumulative in rows.iterator(chunk_size=10_000)
    )


def _check_nothing_fell(
    number: int, previous: Epoch | None, values: Sequence[tuple[str, bytes, int]]
) -> None:
    """Takes this epoch's lines off again: what is left has to be the tree before, to the leaf."""
    earned = {
        (address, bytes(stream)): int(amount)
        for address, stream, amount in lines_of(number)
        .values_list("address", "stream_id")
        .annotate(sum=Sum("amount_base_units"))
    }
    before = []
    for address, stream, cumulative in values:
        was = cumulative - earned.pop((address, stream), 0)
        if was < 0:
            raise _broken(
                number, f"{address} stands lower by 0x{stream.hex()} than the epoch gave it"
            )
        if was:
            before.append((address, stream, was))
    lost = [payee for payee, amount in earned.items() if amount]
    if lost:
        raise _broken(number, f"{lost[0][0]} earned by 0x{lost[0][1].hex()} and stands nowhere")
    root = merkle.Tree.of(merkle.leaves_of(before)).root
    expected = bytes(previous.root) if previous and previous.root else merkle.NO_ROOT
    if root != expected:
        raise _broken(
            number,
            f"without its lines the standings make the root 0x{root.hex()}, and the last tree has "
            f"0x{expected.hex()}: somebody's standing fell, vanished, or grew without a line",
        )


def _told(number: int) -> Iterator[dumps.TreeLine]:
    lines = lines_of(number).values_list(
        "address", "stream_id", "share", "parameters_id", "gross_base_units",
        "amount_base_units", "calls",
    )  # fmt: skip
    for address, stream, share, version, gross, amount, calls in sorted(
        (address, bytes(stream), share, version, int(gross), int(amount), calls)
        for address, stream, share, version, gross, amount, calls in lines
    ):
        yield dumps.TreeLine(address, stream, share, version, gross, amount, calls)


def _require_earlier_sealed(number: int) -> None:
    unsealed = [Epoch.State.OPEN, Epoch.State.CLOSING]
    earlier = Epoch.objects.filter(number__lt=number, state__in=unsealed).order_by("number").first()
    if earlier is not None:
        raise Problem(
            "earlier-epoch-open",
            f"Epoch {earlier.number} is not sealed yet, and each tree is built on the one before.",
            status=409,
            remedy=f"Close epoch {earlier.number} first.",
            retry_safe=True,
        )


def _broken(number: int, what: str) -> Problem:
    return Problem(
        "epoch-does-not-add-up",
        f"Epoch {number} is not sealed: {what}. Amounts are in base units.",
        status=409,
        remedy="The epoch stays closing and nothing of it is paid out. Run reconcile, which names "
        "the rows that differ; once they are right, close the epoch again.",
    )
