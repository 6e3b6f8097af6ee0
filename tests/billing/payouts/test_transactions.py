"""What is passed on for a wallet: what InfraMind handed out, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account as Keys
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.payouts import queries, services
from inframind.lib import calldata
from inframind.lib.problem import Problem
from tests.billing.payouts.acts import IFM, People

pytestmark = pytest.mark.django_db


def fields(people: People, **more: Any) -> dict[str, Any]:
    """An approval of the settlement, as it is handed out."""
    return {
        "type": 2,
        "chainId": 31_337,
        "nonce": people.client.nonce_of(people.address(1)),
        "to": people.chain.ifm,
        "data": calldata.approve(people.chain.settlement, IFM),
        "value": 0,
        "gas": 100_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    } | more


def signed(people: People, number: int = 1, **more: Any) -> bytes:
    made = {key: value for key, value in fields(people, **more).items() if value is not None}
    key = people.chain.accounts[number].key
    return bytes(Keys.sign_transaction(made, key).raw_transaction)


def test_what_was_handed_out_is_passed_on(people: People) -> None:
    raw = signed(people)
    passed = services.relay_signed(people.wallet(1), raw)
    assert people.status(passed) == 1
    assert services.relay_signed(people.wallet(1), raw) == passed
    state = queries.transaction_state(passed)
    assert (state.state, state.confirmations) == ("mined", 1)
    assert queries.transaction_state("0x" + "12" * 32).state == "unknown"


def test_an_old_fashioned_one_is_passed_on(people: People) -> None:
    raw = signed(people, type=None, maxFeePerGas=None, maxPriorityFeePerGas=None, gasPrice=10**11)
    assert people.status(services.relay_signed(people.wallet(1), raw)) == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"chainId": 1}, "for chain 1"),
        ({"value": 1}, "sends ETH"),
        ({"to": "0x" + "11" * 20}, "none of ours"),
        ({"data": b""}, "no function"),
        ({"data": b"\x12\x34\x56\x78" + bytes(64)}, "no function"),
        ({"data": calldata.approve("0x" + "11" * 20, IFM)}, "which is not the settlement"),
        ({"data": calldata.transfer("0x" + "11" * 20, IFM)}, "transfer is not to be called"),
        ({"data": calldata.deposit("0x" + "11" * 20, IFM)}, "deposit is not to be called"),
        ({"data": calldata.approve("0x" + "11" * 20, IFM) + b"\0"}, "usual form"),
        ({"data": calldata.approve("0x" + "11" * 20, IFM)[:-1]}, "do not decode"),
        ({"gas": 30_000_000}, "gas"),
        ({"accessList": [{"address": "0x" + "11" * 20, "storageKeys": []}]}, "access list"),
    ],
)
def test_anything_else_is_refused(people: People, more: dict[str, Any], said: str) -> None:
    with pytest.raises(Problem) as refused:
        services.relay_signed(people.wallet(1), signed(people, **more))
    assert (refused.value.status, refused.value.code) == (422, "transaction-refused")
    assert said in refused.value.detail


def test_settlement_takes_only_what_is_for_it(people: People) -> None:
    for data in (
        calldata.approve(people.chain.settlement, IFM),
        calldata.propose_root(1, b"\1" * 32, 0, ""),
    ):
        with pytest.raises(Problem) as refused:
            services.relay_signed(
                people.wallet(1), signed(people, to=people.chain.settlement, data=data)
            )
        assert "is not to be called at" in refused.value.detail


def test_somebody_elses_signature_is_refused(people: People) -> None:
    with pytest.raises(Problem) as refused:
        services.relay_signed(people.wallet(2), signed(people))
    assert "signed by" in refused.value.detail


def test_what_the_contract_refuses_is_told_before_it_costs_gas(people: People) -> None:
    raw = signed(
        people, to=people.chain.settlement, data=calldata.deposit(people.address(1), 5 * IFM)
    )
    with pytest.raises(Problem) as refused:
        services.relay_signed(people.wallet(1), raw)
    assert (refused.value.status, refused.value.code) == (409, "contract-refuses")
    assert "ERC20Insufficient" in refused.value.detail


def test_a_nonce_that_was_used_is_told(people: People) -> None:
    services.relay_signed(people.wallet(1), signed(people))
    with pytest.raises(Problem) as refused:
        services.relay_signed(people.wallet(1), signed(people, nonce=0, gas=90_000))
    assert (refused.value.status, refused.value.code) == (409, "transaction-refused")


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_octets_are_more_than_refused(people: People, data: st.DataObject) -> None:
    good = signed(people, chainId=1)
    raw = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.builds(lambda tail: b"\x02" + tail, st.binary(max_size=300)),
            st.builds(
                lambda at, octet: good[:at] + bytes([octet]) + good[at + 1 :],
                st.integers(0, len(good) - 1),
                st.integers(0, 255),
            ),
            st.builds(lambda at: good[:at], st.integers(0, len(good))),
        )
    )
    with pytest.raises(Problem) as refused:
        services.relay_signed(people.wallet(1), raw)
    assert refused.value.status == 422
