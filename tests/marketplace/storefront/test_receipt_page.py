"""A receipt as a page: what everybody may check, and what is told to those it concerns."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from django.test import Client

from billing.epochs import services as epochs
from inframind.identity.models import Wallet
from marketplace.catalog.models import Version
from marketplace.gateway.models import Call
from tests.inframind.identity.browsing import OTHER, OWNER, browser_of, page_of
from tests.marketplace.catalog.conftest import Publish
from tests.marketplace.catalog.support import MANIFEST
from tests.marketplace.charged import DIGEST, OPERATOR, charge, row_of
from tests.marketplace.unsigned import UNSIGNED

pytestmark = pytest.mark.django_db
FEE = 25 * 10**16
HASH = "0x[0-9a-f]{64}"


@pytest.fixture
def version(publish: Publish) -> Version:
    return publish()


def page(client: Client, call_id: UUID) -> str:
    answer = client.get(f"/receipts/{call_id}")
    assert answer.status_code == 200
    return page_of(answer)


def test_a_stranger_sees_commitments_and_the_way_to_the_signature(version: Version) -> None:
    call_id, *_ = charge(*[row_of(version, OTHER, FEE) for _ in range(4)])
    found = page(Client(), call_id)
    for told in (
        "Commitments",
        "of id, fee and commitment",
        "2 hashes",
        "4 calls",
        "Signed by the gateway",
        f"infra receipt verify {call_id}",
        "Its receipts root is published when it is sealed.",
    ):
        assert told in found
    assert len(set(re.findall(HASH, found))) >= 8
    for secret in (OTHER, DIGEST, "Salt"):
        assert secret not in found
    assert not re.search(r'<style|\sstyle="|\son[a-z]+="', found)


@pytest.mark.parametrize("party", ["caller", "owner", "operator"])
def test_caller_owner_and_operator_see_all_of_it(version: Version, party: str) -> None:
    [call_id] = charge(row_of(version, OTHER, FEE))
    address = {"caller": OTHER, "owner": version.model.owner_id, "operator": OPERATOR}[party]
    found = page(browser_of(Wallet.objects.of(address)), call_id)
    for told in (OTHER, DIGEST, "Salt", "You see the whole receipt"):
        assert told in found


def test_a_private_models_receipt_is_no_strangers(publish: Publish) -> None:
    secret = publish(MANIFEST + "access: {public: false}\n")
    [call_id] = charge(row_of(secret, OTHER, FEE))
    never = Client().get("/receipts/0b0b0b0b-0b0b-7b0b-8b0b-0b0b0b0b0b0b")
    for client in (Client(), browser_of(Wallet.objects.of("0x" + "99" * 20))):
        answer = client.get(f"/receipts/{call_id}")
        assert answer.status_code == never.status_code == 404
        assert "There is no receipt with this id." in page_of(answer)
    assert "You see the whole receipt" in page(browser_of(Wallet.objects.of(OTHER)), call_id)


def test_a_sealed_epochs_receipt_leads_to_it(version: Version) -> None:
    [call_id] = charge(row_of(version, None, 0))
    epoch = epochs.close(at_once=True)
    found = page(Client(), call_id)
    assert f'href="/epochs/{epoch.number}"' in found
    assert f"epoch {epoch.number}, sealed" in found
    assert "the batch is this call alone" in found


def test_a_call_that_failed_costs_nothing_and_says_why(version: Version) -> None:
    [call_id] = charge(row_of(version, OTHER, FEE, served=False))
    found = page(Client(), call_id)
    assert 'data-base-units="0"' in found
    assert "model-failed" in found


def test_a_call_from_before_receipts_were_signed_says_so(version: Version) -> None:
    call = Call.objects.create(
        id=UUID("0190a000-0000-7000-8000-000000000000"),
        version=version,
        wallet=Wallet.objects.of(OWNER),
        outcome="served",
        latency_us=1_000,
        node_name="node-a",
        input_digest=DIGEST,
        output_digest=DIGEST,
        **UNSIGNED,
    )
    assert "from before receipts were signed" in page(Client(), call.pk)
