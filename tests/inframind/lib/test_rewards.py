"""An honest dump has no flaw, and every way to cheat is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inframind.lib.addresses import checksum_address
from inframind.lib.merkle import Tree, leaf_of, leaves_of, verify
from inframind.lib.rewards import Dump, Flaw, flaws

Document = dict[str, Any]
Fee = tuple[int, int, int, int]  # owner, model, node, fee

PAYEES = [checksum_address(f"0x{index:02x}" + "a7" * 19) for index in range(6)]
STREAMS = ["0x" + f"{index:02x}" * 32 for index in range(6)]
PARAMETERS = {1: (3000, 6000), 2: (1, 3333)}


def streams_of(index: int) -> str:
    return STREAMS[index % len(STREAMS)]


def shared(fees: Sequence[Fee], version: int = 1) -> list[Document]:
    """The lines of an epoch's fees, as the protocol shares them."""
    node_bps, owner_bps = PARAMETERS[version]
    gross: dict[tuple[str, str, str], list[int]] = {}
    for owner, model, node, fee in fees:
        for key in ((PAYEES[owner], STREAMS[model], "owner"), (PAYEES[node], STREAMS[5], "node")):
            gross.setdefault(key, []).append(fee)
    return [
        {
            "account": account,
            "stream": stream,
            "share": share,
            "parameters": version,
            "gross": str(sum(amounts)),
            "amount": str(sum(amounts) * (owner_bps if share == "owner" else node_bps) // 10_000),
            "calls": len(amounts),
        }
        for (account, stream, share), amounts in sorted(gross.items())
    ]


def sealed(
    epoch: int, revenue: int, lines: list[Document], previous: Document | None = None
) -> Document:
    """What the server publishes: written here a second time, straight from the rules."""
    due: dict[tuple[str, str], int] = {}
    for each in previous["values"] if previous else ():
        account, stream, amount = each["value"]
        due[account, stream] = int(amount)
    for line in lines:
        key = line["account"], line["stream"]
        due[key] = due.get(key, 0) + int(line["amount"])
    entries = [(*key, amount) for key, amount in due.items() if amount]
    return {
        "epoch": epoch,
        "previous": "bafkpreviousdump" if previous else None,
        "revenue": str(revenue),
        "receipts_root": "0x" + "00" * 32,
        "receipts_cid": "bafkreceipts",
        "lines": lines,
        "parameters": [
            {"version": version, "node_bps": node, "owner_bps": owner}
            for version, (node, owner) in PARAMETERS.items()
        ],
        **with_tree(entries),
    }


def with_tree(entries: Sequence[tuple[str, str, int]]) -> Document:
    hashes = leaves_of((account, bytes.fromhex(stream[2:]), n) for account, stream, n in entries)
    tree = Tree.of(hashes)
    return {
        "format": "standard-v1",
        "leafEncoding": ["address", "bytes32", "uint256"],
        "tree": ["0x" + node.hex() for node in tree.heap],
        "values": [
            {"value": [account, stream, str(amount)], "treeIndex": index}
            for (account, stream, amount), index in zip(entries, tree.indexes, strict=True)
        ],
        "total": str(sum(amount for _, _, amount in entries)),
    }


def rebuilt(document: Document, change: Callable[[list[tuple[str, str, int]]], None]) -> Document:
    """The same dump over other values, with a tree and a total that fit them."""
    entries = [(a, s, int(n)) for a, s, n in (each["value"] for each in document["values"])]
    change(entries)
    return {**document, **with_tree(entries)}


def found(document: Document, previous: Document | None = None) -> list[Flaw]:
    return list(flaws(Dump.parse(document), Dump.parse(previous) if previous else None))


def rules(document: Document, previous: Document | None = None) -> set[str]:
    return {flaw.rule for flaw in found(document, previous)}


FEES: list[Fee] = [(0, 0, 3, 10**18 + 7), (1, 1, 3, 5), (0, 2, 4, 999), (2, 0, 4, 10**17)]
FIRST = sealed(1, sum(fee for *_, fee in FEES), shared(FEES))
LATER: list[Fee] = [(0, 0, 4, 12345), (1, 3, 3, 10**18)]
SECOND = sealed(2, sum(fee for *_, fee in LATER), shared(LATER), FIRST)

fees = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(3, 4), st.integers(0, 2 * 10**18)),
    max_size=12,
)


@given(st.lists(fees, min_size=1, max_size=4))
def test_what_follows_the_rules_has_no_flaw(epochs: list[list[Fee]]) -> None:
    before: Document | None = None
    for number, each in enumerate(epochs, 1):
        document = sealed(number, sum(fee for *_, fee in each), shared(each), before)
        assert found(document, before) == []
        before = document


@given(fees, st.data())
def test_a_value_that_is_one_unit_off_is_a_flaw_whatever_its_tree_says(
    each: list[Fee], data: st.DataObject
) -> None:
    document = sealed(1, sum(fee for *_, fee in each), shared(each))
    if not document["values"]:
        return
    position = data.draw(st.integers(0, len(document["values"]) - 1))
    by = data.draw(st.sampled_from([-1, 1]))

    def cheat(entries: list[tuple[str, str, int]]) -> None:
        account, stream, amount = entries[position]
        entries[position] = account, stream, amount + by

    assert rules(rebuilt(document, cheat)) == {"standing"}


def test_an_epoch_without_fees_seals_the_standings_as_they_were() -> None:
    assert found(sealed(2, 0, [], FIRST), FIRST) == []
    empty = sealed(1, 0, [])
    assert (found(empty), Dump.parse(empty).root) == ([], bytes(32))


def test_the_proof_of_a_leaf_leads_to_the_root() -> None:
    dump = Dump.parse(SECOND)
    assert len(dump.leaves) > 3
    for leaf in dump.leaves:
        digest = leaf_of(leaf.account, leaf.stream, leaf.cumulative)
        assert verify(dump.root, digest, dump.proof(leaf))
    assert [leaf.account for leaf in dump.leaves_of(PAYEES[0])] == [PAYEES[0]] * 2
    assert dump.shared == sum(int(line["amount"]) for line in SECOND["lines"])


def test_a_dropped_leaf_has_vanished() -> None:
    assert rules(rebuilt(SECOND, lambda entries: entries.pop(0) and None), FIRST) == {"vanished"}


def test_a_lowered_cumulative_fell() -> None:
    def cheat(entries: list[tuple[str, str, int]]) -> None:
        account, stream, _amount = entries[0]
        entries[0] = account, stream, 1

    [flaw] = found(rebuilt(SECOND, cheat), FIRST)
    assert (flaw.rule, "to 1." in flaw.detail) == ("fell", True)


def test_a_swapped_stream_vanished_from_one_and_came_to_another_from_nowhere() -> None:
    def cheat(entries: list[tuple[str, str, int]]) -> None:
        account, _, amount = entries[0]
        entries[0] = account, "0x" + "ee" * 32, amount

    assert rules(rebuilt(SECOND, cheat), FIRST) == {"vanished", "standing"}


def test_a_leaf_for_somebody_who_earned_nothing_has_no_reason() -> None:
    stranger = checksum_address("0x" + "ee" * 20)
    cheated = rebuilt(SECOND, lambda entries: entries.append((stranger, STREAMS[0], 5)))
    assert rules(cheated, FIRST) == {"standing"}


def test_a_leaf_that_is_there_twice_is_told() -> None:
    cheated = rebuilt(SECOND, lambda entries: entries.append(entries[0]))
    assert rules(cheated, FIRST) >= {"standing"}


def test_a_total_that_is_not_the_sum_is_told() -> None:
    cheated = {**SECOND, "total": str(int(SECOND["total"]) + 1)}
    assert rules(cheated, FIRST) == {"total"}


@pytest.mark.parametrize("by", [-1, 1])
def test_a_share_that_is_not_rounded_down_is_told(by: int) -> None:
    lines = copy.deepcopy(SECOND["lines"])
    lines[0]["amount"] = str(int(lines[0]["amount"]) + by)
    # Everything else fits the cheat: the values, their sum, the tree.
    cheated = sealed(2, int(SECOND["revenue"]), lines, FIRST)
    assert rules(cheated, FIRST) == {"rounding"}


def test_a_fee_that_only_its_owner_shares_is_told() -> None:
    lines = [line for line in SECOND["lines"] if line["share"] == "owner"]
    assert rules(sealed(2, int(SECOND["revenue"]), lines, FIRST), FIRST) == {"revenue"}


def test_a_revenue_of_which_nobody_has_a_share_is_told() -> None:
    assert rules({**SECOND, "revenue": str(int(SECOND["revenue"]) + 1)}, FIRST) == {"revenue"}


def test_two_values_that_share_a_node_are_told() -> None:
    cheated = copy.deepcopy(SECOND)
    cheated["values"][0]["treeIndex"] = cheated["values"][1]["treeIndex"]
    assert rules(cheated, FIRST) == {"tree"}


def test_an_index_outside_of_the_tree_is_told() -> None:
    cheated = copy.deepcopy(SECOND)
    cheated["values"][0]["treeIndex"] = len(cheated["tree"])
    assert rules(cheated, FIRST) == {"tree"}


@pytest.mark.parametrize("at", [0, 1, -1])
def test_a_node_that_is_not_the_hash_of_its_children_is_told(at: int) -> None:
    cheated = copy.deepcopy(SECOND)
    cheated["tree"][at] = "0x" + "17" * 32
    assert rules(cheated, FIRST) == {"tree"}


def test_a_tree_with_a_node_too_few_is_told() -> None:
    assert rules({**SECOND, "tree": SECOND["tree"][:-1]}, FIRST) == {"tree"}


def test_leaves_in_another_order_than_openzeppelins_are_told() -> None:
    entries = [each["value"] for each in SECOND["values"]]
    hashes = sorted(leaf_of(a, bytes.fromhex(s[2:]), int(n)) for a, s, n in entries)
    tree = Tree.of(hashes[::-1], sort=False)
    where = {node: index for index, node in enumerate(tree.heap)}
    cheated = {
        **SECOND,
        "tree": ["0x" + node.hex() for node in tree.heap],
        "values": [
            {"value": [a, s, n], "treeIndex": where[leaf_of(a, bytes.fromhex(s[2:]), int(n))]}
            for a, s, n in entries
        ],
    }
    assert rules(cheated, FIRST) == {"tree"}


def test_a_version_of_the_parameters_never_changes() -> None:
    lines = copy.deepcopy(SECOND["lines"])
    for line in lines:
        if line["share"] == "owner":
            line["amount"] = str(int(line["gross"]) * 5000 // 10_000)
    cheated = sealed(2, int(SECOND["revenue"]), lines, FIRST)
    cheated["parameters"][0]["owner_bps"] = 5000
    assert rules(cheated, FIRST) == {"lines"}


@pytest.mark.parametrize(
    "change", [{"share": "friend"}, {"parameters": 9}], ids=["share", "parameters"]
)
def test_a_line_that_no_rule_covers_is_told(change: Document) -> None:
    lines = copy.deepcopy(SECOND["lines"])
    lines[0].update(change)
    assert "lines" in rules({**SECOND, "lines": lines}, FIRST)


def test_a_line_that_is_there_twice_is_told() -> None:
    lines = [*SECOND["lines"], SECOND["lines"][0]]
    assert "lines" in rules({**SECOND, "lines": lines}, FIRST)


def test_two_versions_of_the_parameters_are_shared_out_apart() -> None:
    lines = [*shared(FEES, 1), *shared(LATER, 2)]
    revenue = sum(fee for *_, fee in (*FEES, *LATER))
    assert found(sealed(1, revenue, lines)) == []
    moved = copy.deepcopy(lines)
    first = next(line for line in moved if (line["parameters"], line["share"]) == (1, "node"))
    other = next(line for line in moved if (line["parameters"], line["share"]) == (2, "node"))
    first["gross"], other["gross"] = str(int(first["gross"]) - 1), str(int(other["gross"]) + 1)
    for line in (first, other):
        bps = PARAMETERS[line["parameters"]][0]
        line["amount"] = str(int(line["gross"]) * bps // 10_000)
    assert rules(sealed(1, revenue, moved)) == {"revenue"}


def test_a_dump_follows_the_one_that_it_names() -> None:
    assert rules({**FIRST, "previous": "bafkother"}) == {"previous"}
    assert "previous" in rules({**SECOND, "previous": None}, FIRST)
    assert "previous" in rules(SECOND, SECOND)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "simple-v1"},
        {"leafEncoding": ["address", "uint256"]},
        {"epoch": "2"},
        {"epoch": True},
        {"total": 7},
        {"total": "007"},
        {"total": "-7"},
        {"total": "1e3"},
        {"total": str(1 << 256)},
        {"tree": "0x"},
        {"tree": ["0x12"]},
        {"values": [{"value": ["0x12", "0x" + "00" * 32, "1"], "treeIndex": 0}]},
        {"values": [{"value": [PAYEES[0], "1"], "treeIndex": 0}]},
        {"values": [7]},
        {"lines": [{}]},
        {"parameters": {}},
        {"previous": 7},
        {"receipts_root": None},
    ],
    ids=str,
)
def test_what_is_no_dump_is_refused_in_words(change: Document) -> None:
    with pytest.raises(ValueError, match=r".+\.$"):
        Dump.parse({**SECOND, **change})


@pytest.mark.parametrize("document", [None, [], 7, "tree"])
def test_what_is_no_document_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        Dump.parse(document)
