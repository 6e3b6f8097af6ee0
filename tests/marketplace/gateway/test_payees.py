"""The zero address is paid nothing: what it earned could never be claimed."""

from __future__ import annotations

from typing import Any

import pytest

from inframind.lib.addresses import payee_address
from marketplace.gateway import batches, payees

SOMEBODY = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
# The third account of the well-known development mnemonic, and its key.
KEY = "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a"


def test_operators_and_owners_are_paid_where_they_say() -> None:
    assert payees.node_payee(SOMEBODY) == SOMEBODY
    assert payees.owner_payee(SOMEBODY, OTHER) == SOMEBODY


def test_terms_that_name_nobody_pay_the_owner() -> None:
    assert payees.owner_payee(payees.ZERO_ADDRESS, OTHER) == OTHER


def test_nodes_of_the_house_pay_the_account_named_for_it(settings: Any) -> None:
    settings.HOUSE_PAYOUT_ADDRESS = OTHER.lower()
    settings.CHAIN_KEY = KEY
    assert payees.node_payee(payees.ZERO_ADDRESS) == OTHER


def test_without_one_they_pay_the_account_that_we_send_from(settings: Any) -> None:
    settings.HOUSE_PAYOUT_ADDRESS = ""
    settings.CHAIN_KEY = KEY
    assert payees.node_payee(payees.ZERO_ADDRESS) == SOMEBODY


def test_without_a_chain_they_pay_the_signer_of_receipts(settings: Any) -> None:
    settings.HOUSE_PAYOUT_ADDRESS = ""
    settings.CHAIN_KEY = ""
    assert payees.node_payee(payees.ZERO_ADDRESS) == batches.signer()


def test_the_zero_address_is_refused_as_a_payee() -> None:
    with pytest.raises(ValueError, match="could never be claimed"):
        payee_address(payees.ZERO_ADDRESS)
    assert payee_address(OTHER.lower()) == OTHER
