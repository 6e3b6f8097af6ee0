"""Which node may run which version."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from marketplace.mesh.eligibility import Offered, Wanted, refusal

OWNER, OPERATOR = "0xowner", "0xoperator"
NAMED = frozenset({"node-a"})


def wanted(runtime: str = "onnx", *, public: bool = True, approved: bool = True) -> Wanted:
    return Wanted(runtime=runtime, public=public, owner=OWNER, code_approved=approved)


def offered(*, code: bool = False, trusted: bool = False, operator: str = OPERATOR) -> Offered:
    return Offered(frozenset({"python"}), code, trusted, operator, "node-a")


@pytest.mark.parametrize(
    ("version", "node", "allowed"),
    [
        (wanted(), offered(), True),
        (wanted(), offered(trusted=True), True),
        (wanted(), offered(code=True), False),
        (wanted("python"), offered(code=True), True),
        (wanted("python"), offered(trusted=True), False),
        (wanted("python", approved=False), offered(code=True), False),
        (wanted(public=False), offered(), False),
        (wanted(public=False), offered(trusted=True), True),
        (wanted(public=False), offered(operator=OWNER), True),
        (wanted("python", public=False), offered(code=True), False),
        (replace(wanted(public=False), named_nodes=NAMED), offered(), True),
        (replace(wanted(public=False), named_nodes=frozenset({"other"})), offered(), False),
        (replace(wanted(public=False), named_nodes=NAMED), offered(code=True), False),
        (wanted("container"), offered(trusted=True), False),
        (replace(wanted("python"), streaming=True), offered(code=True), False),
        (replace(wanted("python"), streaming=True), replace(offered(code=True), grpc=True), True),
    ],
)
def test_who_runs_what(version: Wanted, node: Offered, allowed: bool) -> None:
    assert (refusal(version, node) == "") is allowed


def test_no_node_of_others_runs_both_publisher_code_and_private_models() -> None:
    for code, trusted in ((True, False), (False, True), (False, False)):
        node = offered(code=code, trusted=trusted)
        runs = {
            (runtime, public)
            for runtime, public in product(("onnx", "python"), (True, False))
            if not refusal(wanted(runtime, public=public), node)
        }
        assert not (("python", True) in runs and {("onnx", False), ("python", False)} & runs)


def test_a_node_without_a_backend_is_no_place() -> None:
    assert refusal(wanted(), Offered(frozenset(), False, True, OPERATOR))
