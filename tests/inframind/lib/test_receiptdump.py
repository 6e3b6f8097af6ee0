"""Published receipts are added up again, and whatever does not fit is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.receiptdump import Reader, Sought
from tests.inframind.lib.published import CHAIN_ID, SIGNER, Batch, Call, Epoch

CALLS = [[Call(0), Call(1, fee=0), Call(2, fee=7)], [Call(3)], [Call(4), Call(5)]]
Lines = list[dict[str, Any]]


def read(epoch: Epoch, sought: Sought | None = None, signer: str = SIGNER) -> Reader:
    reader = Reader(epoch=epoch.number, chain_id=CHAIN_ID, signer=signer, sought=sought)
    for line in epoch.dump().splitlines():
        reader.feed(line)
    reader.finish()
    return reader


def sought(batch: Batch, position: int) -> Sought:
    call = batch.calls[position]
    return Sought(call.id, batch.tree.root, call.leaf(batch.time_us))


@given(st.lists(st.integers(1, 4), max_size=6), st.data())
def test_what_a_gateway_publishes_has_no_flaw(sizes: list[int], data: st.DataObject) -> None:
    calls, number = [], 0
    for size in sizes:
        calls.append(
            [Call(number + each, fee=data.draw(st.integers(0, 9))) for each in range(size)]
        )
        number += size
    epoch = Epoch.of(calls)
    reader = read(epoch)
    assert (reader.flaws, reader.root) == ([], epoch.root)
    assert (reader.count, reader.fees, reader.batches) == (number, epoch.fees, len(sizes))


def test_an_epoch_without_calls_has_no_root() -> None:
    reader = read(Epoch.of([]))
    assert (reader.flaws, reader.root, reader.fees) == ([], bytes(32), 0)


def test_every_receipt_is_found_and_no_other() -> None:
    epoch = Epoch.of(CALLS)
    for batch in epoch.batches:
        for position in range(len(batch.calls)):
            assert read(epoch, sought(batch, position)).found
    stranger = Batch(0, (Call(99),), 1)
    assert not read(epoch, sought(stranger, 0)).found
    # The same receipt under another fee is another receipt.
    dearer = replace(epoch.batches[0], calls=(Call(0, fee=1), *epoch.batches[0].calls[1:]))
    assert not read(epoch, sought(dearer, 0)).found


def spoilt(spoil: Callable[[Lines], Any]) -> list[str]:
    epoch = Epoch.of(CALLS)
    spoil(epoch.lines)
    return read(epoch).flaws


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines.pop(2), "Its header says 3 batches, and there are 2."),
        (lambda lines: lines.append(lines[1]), "is there twice"),
        (lambda lines: lines[1]["receipts"].pop(), "says 3 receipts of 10000000000000007"),
        (lambda lines: lines[1]["receipts"].reverse(), None),
        (lambda lines: lines[1]["receipts"][2].__setitem__(1, "8"), "is not the tree"),
        (lambda lines: lines[1].__setitem__("fees", "5"), "not signed by the gateway"),
        (lambda lines: lines[1].__setitem__("count", 4), "says 4 receipts"),
        (lambda lines: lines[1].__setitem__("time", 5), "not signed by the gateway"),
        (lambda lines: lines[1].__setitem__("signature", "0x12"), "not signed by the gateway"),
        (lambda lines: lines[1].__setitem__("root", "0x" + "11" * 32), "is not the tree"),
        (lambda lines: lines.insert(1, lines.pop()), "not in the order of times"),
        (lambda lines: lines[0].__setitem__("fees", "5"), "Its header says 5 base units"),
        (lambda lines: lines[0].__setitem__("count", 5), "Its header says 5 receipts"),
        (lambda lines: lines[0].__setitem__("root", "0x" + "11" * 32), "Its header says root"),
        (lambda lines: lines[0].__setitem__("epoch", 2), "It is of epoch 2"),
        (lambda lines: lines[0].__setitem__("chain_id", 1), "It is for chain 1"),
    ],
    ids=[
        "a batch dropped", "a batch twice", "a receipt dropped", "receipts in another order",
        "a fee changed", "the sum changed", "the count changed", "the time changed",
        "no signature", "another root", "out of order", "header fees", "header count",
        "header root", "another epoch", "another chain",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said(spoil: Callable[[Lines], Any], words: str | None) -> None:
    flaws = spoilt(spoil)
    if words is None:
        # The tree is of a set: whoever published them in another order changed nothing.
        assert flaws == []
    else:
        assert any(words in flaw for flaw in flaws), flaws


def test_a_signature_of_another_key_is_no_signature() -> None:
    epoch = Epoch.of(CALLS)
    forged = replace(epoch.batches[0], key=bytes([9]) * 32)
    epoch.lines[1] = forged.line()
    assert [flaw for flaw in read(epoch).flaws if "not signed" in flaw] != []
    assert len(read(Epoch.of(CALLS), signer="0x" + "00" * 20).flaws) == len(CALLS)


def test_the_same_receipt_in_two_batches_is_charged_once_too_often() -> None:
    flaws = read(Epoch.of([[Call(0)], [Call(0)]])).flaws
    assert flaws == [f"Receipt {Call(0).id} is there twice."]


def test_of_many_flaws_the_first_are_told_and_all_are_counted() -> None:
    reader = read(Epoch.of([[Call(at)] for at in range(40)]), signer="nobody")
    assert (len(reader.flaws), reader.flaw_count) == (20, 40)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"[]"],
        [b"7"],
        [b'{"format":"other"}'],
        [b'{"format":"inframind-receipts-v1","epoch":1}'],
        [json.dumps(Epoch.of([]).lines[0] | {"fees": 7}).encode()],
        [json.dumps(Epoch.of([]).lines[0]).encode(), b"{}"],
        [json.dumps(Epoch.of([]).lines[0]).encode(), b'{"id":7}'],
    ],
)
def test_what_is_no_dump_is_refused_in_words(lines: list[bytes]) -> None:
    reader = Reader(epoch=1, chain_id=CHAIN_ID, signer=SIGNER)
    with pytest.raises(ValueError):  # noqa: PT012 - either may be the one that sees it
        for line in lines:
            reader.feed(line)
        reader.finish()
