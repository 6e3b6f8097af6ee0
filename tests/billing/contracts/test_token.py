"""The token: a fixed supply, and votes that count from the first receipt on."""

from __future__ import annotations

from inframind.devstack.chain import SUPPLY
from tests.billing.contracts.onchain import Contracts, refusal
from tests.chains import DevChain

NOBODY = "0x" + "00" * 20


def transfer(contracts: Contracts, sender: str, to: str, amount: int) -> None:
    contracts.sent(contracts.ifm.functions.transfer(to, amount), sender)


def votes(contracts: Contracts, account: str) -> int:
    return int(contracts.ifm.functions.getVotes(account).call())


def delegate_of(contracts: Contracts, account: str) -> str:
    return str(contracts.ifm.functions.delegates(account).call())


def test_it_is_the_token_that_wallets_expect(contracts: Contracts) -> None:
    functions = contracts.ifm.functions
    assert functions.name().call() == "InfraMind"
    assert functions.symbol().call() == "IFM"
    assert functions.decimals().call() == 18
    assert functions.totalSupply().call() == SUPPLY
    assert contracts.balance(contracts.operator) == SUPPLY
    assert contracts.read("ifm") == contracts.ifm_address
    assert votes(contracts, contracts.operator) == SUPPLY


def test_an_account_delegates_to_itself_at_its_first_receipt(
    contracts: Contracts, chain: DevChain
) -> None:
    first, second = str(chain.accounts[0].address), str(chain.accounts[1].address)
    assert delegate_of(contracts, first) == NOBODY
    transfer(contracts, contracts.operator, first, 100)
    assert (delegate_of(contracts, first), votes(contracts, first)) == (first, 100)
    transfer(contracts, first, second, 40)
    transfer(contracts, contracts.operator, first, 1)
    assert (votes(contracts, first), votes(contracts, second)) == (61, 40)
    assert votes(contracts, contracts.operator) == SUPPLY - 101


def test_a_delegate_that_was_chosen_stays(contracts: Contracts, chain: DevChain) -> None:
    first, second = str(chain.accounts[0].address), str(chain.accounts[1].address)
    contracts.sent(contracts.ifm.functions.delegate(second), first)
    transfer(contracts, contracts.operator, first, 100)
    assert (delegate_of(contracts, first), votes(contracts, second)) == (second, 100)


def test_delegating_to_nobody_is_a_choice_too(contracts: Contracts, chain: DevChain) -> None:
    first = str(chain.accounts[0].address)
    transfer(contracts, contracts.operator, first, 100)
    contracts.sent(contracts.ifm.functions.delegate(NOBODY), first)
    transfer(contracts, contracts.operator, first, 100)
    assert (delegate_of(contracts, first), votes(contracts, first)) == (NOBODY, 0)
    contracts.sent(contracts.ifm.functions.delegate(first), first)
    assert votes(contracts, first) == 200


def test_a_contract_that_holds_tokens_has_no_votes(contracts: Contracts, chain: DevChain) -> None:
    contracts.fund(100)
    assert delegate_of(contracts, contracts.address) == NOBODY
    assert votes(contracts, contracts.address) == 0
    assert votes(contracts, contracts.operator) == SUPPLY - 100


def test_nobody_spends_what_was_not_approved(contracts: Contracts, chain: DevChain) -> None:
    thief = str(chain.accounts[0].address)
    call = contracts.ifm.functions.transferFrom(contracts.operator, thief, 1)
    assert refusal(call, thief) == ("ERC20InsufficientAllowance", thief, 0, 1)
