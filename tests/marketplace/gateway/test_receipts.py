"""Receipts: who sees what of them, what they prove, and what the books are told of calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from billing.epochs.services import current
from billing.epochs.sources import receipts as source
from billing.payouts.models import Delegation
from inframind.identity.models import Wallet
from inframind.lib import merkle, receipts, secp256k1
from marketplace.catalog.models import Model, Version
from marketplace.gateway import batches, links, partitions
from marketplace.gateway.models import Batch, Call
from marketplace.gateway.receipts import CallReceipts
from marketplace.mesh.models import Node

from ..mesh.serving import OWNER, fresh_name, list_doubler
from . import money
from .money import FEE, GUEST

STRANGER = "0x4444444444444444444444444444444444444444"
WHOLE = {"caller", "salt", "input_digest", "output_digest", "linked"}


@pytest.fixture
def version(mesh: list[Node]) -> Version:
    money.fund(GUEST, 50 * FEE)
    return money.paid_doubler()


def shown(call: Call, address: str | None, **wish: Any) -> Any:
    token = money.token_of(address, **wish) if address else None
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client().get(f"/api/v1/receipts/{call.pk}", headers=headers)


def wrongs(document: Any, settings: Any) -> list[str]:
    signer = secp256k1.address_of_key(batches.signing_key())
    return receipts.verify(document, signer=signer, chain_id=settings.CHAIN_ID)


def test_a_receipt_is_signed_and_checks_out_for_everybody(version: Version, settings: Any) -> None:
    token = money.token_of()
    answers = money.at_once([money.request_of(version.model_id, token) for _ in range(9)])
    for answer in answers:
        call = money.call_of(answer)
        public, own = shown(call, None).json(), shown(call, GUEST).json()
        assert (public["whole"], own["whole"]) == (False, True)
        assert WHOLE.isdisjoint(public)
        assert own.keys() >= WHOLE
        assert wrongs(public, settings) == wrongs(own, settings) == []
        assert (own["caller"], own["fee"]["base_units"]) == (GUEST, str(FEE))
        assert (own["epoch"], own["epoch_state"]) == (1, "open")


def test_a_failed_call_has_a_receipt_too(version: Version, settings: Any) -> None:
    request = money.request_of(version.model_id, money.token_of(), b"not json")
    own = shown(money.call_of(money.answer_of(request)), GUEST).json()
    assert (own["outcome"], own["problem"]) == ("invalid-input", "invalid-input")
    assert own["output_commitment"] is None
    assert wrongs(own, settings) == []


def test_the_whole_is_for_caller_owner_and_operator_within_their_tokens(version: Version) -> None:
    call = money.call_of(money.answer_of(money.request_of(version.model_id, money.token_of())))
    operator = Wallet.objects.of(STRANGER)
    Node.objects.filter(name=call.node_name).update(operator=operator)
    other = money.call_of(money.answer_of(money.request_of(version.model_id, money.token_of())))
    nobody = "0x5555555555555555555555555555555555555555"

    assert shown(other, STRANGER).json()["whole"] is (other.operator_address == STRANGER)
    Call.objects.filter(pk=call.pk).update(operator_address=STRANGER)
    for address in (GUEST, OWNER, STRANGER):
        assert shown(call, address).json()["whole"] is True
        assert shown(call, address, models_allowed=["other-v1"]).json()["whole"] is False
        assert shown(call, address, models_allowed=[version.model_id]).json()["whole"] is True
        owned = shown(call, address, model_scope="owned").json()["whole"]
        assert owned is (address == OWNER)
    assert shown(call, nobody).json()["whole"] is False

    Model.objects.filter(pk=version.model_id).update(
        public=False, auth_required=True, restricted=True
    )
    for address in (GUEST, OWNER, STRANGER):
        assert shown(call, address).json()["whole"] is True
        assert shown(call, address, models_allowed=["other-v1"]).status_code == 404
    missing = Client().get(f"/api/v1/receipts/{uuid4()}").json()
    for hidden in (shown(call, None), shown(call, nobody)):
        assert hidden.status_code == 404
        assert {**hidden.json(), "instance": ""} == {**missing, "instance": ""}


def test_a_call_from_before_receipts_has_none_to_check(version: Version, settings: Any) -> None:
    call = money.call_of(money.answer_of(money.request_of(version.model_id, money.token_of())))
    Batch.objects.all().delete()
    own = shown(call, GUEST).json()
    assert (own["batch"], own["commitment"], own["proof"]) == (None, None, [])
    assert len(wrongs(own, settings)) == 1


def test_what_the_books_are_told_adds_up_to_the_last_unit(version: Version) -> None:
    hidden = money.paid_doubler(FEE + 1)
    Model.objects.filter(pk=hidden.model_id).update(
        public=False, auth_required=True, restricted=True, owner=Wallet.objects.of(GUEST)
    )
    money.fund(STRANGER, 50 * FEE)
    mine, theirs = money.token_of(), money.token_of(STRANGER)
    requests = [
        *(money.request_of(version.model_id, token) for token in (mine, theirs) * 6),
        *(money.request_of(hidden.model_id, mine) for _ in range(3)),
        *(money.request_of(version.model_id, mine, b"{}") for _ in range(4)),
    ]
    assert money.kinds(money.at_once(requests))["served"] == 15
    money.idle()
    kept = source()
    assert isinstance(kept, CallReceipts)

    owed = {each.wallet: each.fees_base_units for each in kept.charges(1)}
    assert owed == {GUEST: 9 * FEE + 3, STRANGER: 6 * FEE} == kept.unposted()
    revenue = list(kept.revenue(1))
    for share in ("owner", "node"):
        assert sum(each.fees_base_units for each in revenue if each.share == share) == sum(
            owed.values()
        )
        assert sum(each.calls for each in revenue if each.share == share) == 15
    models = {each.subject: each for each in revenue if each.share == "owner"}
    assert set(models) == {f"model:{version.model_id}", f"model:{hidden.model_id}"}
    assert models[f"model:{hidden.model_id}"].hidden
    assert kept.secret({*models, "node:anything"}) == {f"model:{hidden.model_id}"}
    assert not models[f"model:{version.model_id}"].hidden
    nodes = {f"node:{each.pk}" for each in Node.objects.all()}
    assert {each.subject for each in revenue if each.share == "node"} <= nodes

    signed = list(kept.batches(1))
    assert sum(batch.count for batch in signed) == Call.objects.count() == 19
    assert sum(batch.fees_base_units for batch in signed) == sum(owed.values())
    assert kept.so_far(1).calls == 19
    assert [each.time_us for each in signed] == sorted(each.time_us for each in signed)
    for batch in signed:
        leaves = [
            merkle.keccak(merkle.keccak(call_id + bytes(16) + fee.to_bytes(32, "big") + commitment))
            for call_id, fee, commitment in batch.leaves
        ]
        assert merkle.Tree.of(leaves).root == batch.root


def test_a_row_that_was_changed_is_found_when_the_epoch_is_read(version: Version) -> None:
    call = money.call_of(money.answer_of(money.request_of(version.model_id, money.token_of())))
    Call.objects.filter(pk=call.pk).update(latency_us=call.latency_us + 1)
    with pytest.raises(RuntimeError, match=str(call.pk)):
        list(source().batches(1))


@pytest.mark.django_db(transaction=True)
def test_partitions_are_made_once_however_many_ask_and_go_whole() -> None:
    def prepare(_: int) -> None:
        try:
            CallReceipts().prepare(901)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(prepare, range(6)))
    CallReceipts().prepare(901)
    assert money.rows("SELECT to_regclass('gateway_call_902')") != [(None,)]
    for number in (901, 902):
        CallReceipts().retire(number)
        CallReceipts().retire(number)
    assert money.rows("SELECT to_regclass('gateway_call_901')") == [(None,)]
    with pytest.raises(ValueError):
        partitions.drop(0)


def test_an_epoch_that_retires_takes_its_calls_along(version: Version) -> None:
    call = money.call_of(money.answer_of(money.request_of(version.model_id, money.token_of())))
    assert current().number == 1
    money.idle()
    source().retire(1)
    assert not Call.objects.filter(pk=call.pk).exists()
    assert not Batch.objects.exists()
    source().prepare(1)


def test_a_partition_has_the_rules_of_its_table(version: Version) -> None:
    source().prepare(1)
    found = money.rows(
        "SELECT contype, count(*) FROM pg_constraint WHERE conrelid = 'gateway_call_1'::regclass "
        "GROUP BY contype ORDER BY contype"
    )
    of_table = money.rows(
        "SELECT contype, count(*) FROM pg_constraint WHERE conrelid = 'gateway_call'::regclass "
        "GROUP BY contype ORDER BY contype"
    )
    assert found == of_table


@pytest.mark.parametrize(
    ("caller", "delegations", "linked"),
    [
        (GUEST, {}, False),
        (OWNER, {}, True),
        (GUEST, {GUEST: OWNER}, True),
        (GUEST, {OWNER: GUEST}, True),
        (GUEST, {GUEST: STRANGER, OWNER: STRANGER}, False),
        (GUEST, {GUEST: GUEST, OWNER: OWNER}, False),
    ],
)
def test_who_is_paid_or_votes_with_the_paid_is_linked(
    mesh: list[Node], caller: str, delegations: dict[str, str], linked: bool
) -> None:
    free = list_doubler(fresh_name("doubler"))
    for index, (address, delegate) in enumerate(delegations.items()):
        Delegation.objects.create(
            address=links.normal(address),
            delegate=links.normal(delegate),
            block_number=1,
            log_index=index,
        )
    call = money.call_of(money.answer_of(money.request_of(free.model_id, money.token_of(caller))))
    assert call.linked is linked
