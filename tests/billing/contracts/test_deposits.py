"""What comes in is counted once, for whom it was meant, from who agreed to it."""

from __future__ import annotations

from eth_account import Account

from tests.billing.contracts.onchain import FAR, Contracts
from tests.chains import DevChain

NOBODY = "0x" + "00" * 20


def give(contracts: Contracts, account: str, amount: int) -> None:
    contracts.sent(contracts.ifm.functions.transfer(account, amount), contracts.operator)


def test_a_deposit_moves_tokens_and_says_for_whom(contracts: Contracts, chain: DevChain) -> None:
    payer, other = str(chain.accounts[0].address), str(chain.accounts[1].address)
    give(contracts, payer, 1000)
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 600), payer)
    events = contracts.send("deposit", other, 600, sender=payer)
    assert events == [{"event": "Deposited", "account": other, "from": payer, "amount": 600}]
    assert contracts.balance(payer) == 400
    assert contracts.state() == {
        "tokens": 600,
        "totalDeposited": 600,
        "totalClaimed": 0,
        "totalWithdrawn": 0,
        "held": 600,
        "rootEpoch": 0,
    }
    assert contracts.refuses("deposit", other, 1, sender=payer) == (
        "ERC20InsufficientAllowance",
        contracts.address,
        0,
        1,
    )


def test_deposits_of_nothing_or_for_nobody_are_refused(contracts: Contracts) -> None:
    assert contracts.refuses("deposit", contracts.operator, 0) == ("ZeroAmount",)
    assert contracts.refuses("deposit", NOBODY, 1) == ("ZeroAccount",)


def test_nobody_deposits_more_than_they_have(contracts: Contracts, chain: DevChain) -> None:
    payer = str(chain.accounts[0].address)
    give(contracts, payer, 10)
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 2**256 - 1), payer)
    assert contracts.refuses("deposit", payer, 11, sender=payer) == (
        "ERC20InsufficientBalance",
        payer,
        10,
        11,
    )


def test_a_permit_deposits_in_one_transaction_that_anyone_sends(
    contracts: Contracts, chain: DevChain
) -> None:
    payer, relay = chain.accounts[0], str(chain.accounts[5].address)
    give(contracts, payer.address, 1000)
    permit = contracts.permit(payer, 600)
    events = contracts.send(
        "depositWithPermit", payer.address, payer.address, 600, *permit, sender=relay
    )
    assert [each["event"] for each in events] == ["Deposited"]
    assert contracts.balance(payer.address) == 400
    assert contracts.read("totalDeposited") == 600


def test_who_sends_their_own_permit_may_deposit_for_another_account(
    contracts: Contracts, chain: DevChain
) -> None:
    payer, other = chain.accounts[0], str(chain.accounts[1].address)
    give(contracts, payer.address, 1000)
    permit = contracts.permit(payer, 600)
    arguments = (other, payer.address, 600, *permit)
    assert contracts.refuses("depositWithPermit", *arguments, sender=other) == (
        "NotTheSigner",
        other,
        payer.address,
    )
    [event] = contracts.send("depositWithPermit", *arguments, sender=payer.address)
    assert (event["account"], event["from"]) == (other, payer.address)


def test_a_permit_taken_from_the_mempool_does_not_stop_the_deposit(
    contracts: Contracts, chain: DevChain
) -> None:
    payer, relay = chain.accounts[0], str(chain.accounts[5].address)
    give(contracts, payer.address, 1000)
    for sender in (relay, payer.address):
        deadline, *parts = contracts.permit(payer, 300)
        thief = contracts.ifm.functions.permit(
            payer.address, contracts.address, 300, deadline, *parts
        )
        contracts.sent(thief, str(chain.accounts[9].address))
        arguments = (payer.address, payer.address, 300, deadline, *parts)
        contracts.send("depositWithPermit", *arguments, sender=sender)
    assert contracts.read("totalDeposited") == 600
    assert contracts.balance(payer.address) == 400
    # Used up by that: an approval for something else does not bring it to life again.
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 2**255), payer.address)
    for sender in (relay, payer.address):
        assert contracts.refuses("depositWithPermit", *arguments, sender=sender) == (
            "PermitRefused",
            payer.address,
        )


def test_a_stranger_deposits_nothing_with_an_approval_that_was_for_something_else(
    contracts: Contracts, chain: DevChain
) -> None:
    """A standing approval, and every permit that somebody could send again, or make up."""
    payer, stranger = chain.accounts[0], chain.accounts[5]
    give(contracts, payer.address, 1000)
    good = contracts.permit(payer, 100)
    contracts.send(
        "depositWithPermit", payer.address, payer.address, 100, *good, sender=payer.address
    )
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 2**255), payer.address)
    refused = ("PermitRefused", payer.address)
    for amount, permit in (
        (100, good),
        (99, good),
        (100, (FAR + 1, *good[1:])),
        (500, contracts.permit(stranger, 500)),
        (500, (FAR, 27, b"\0" * 32, b"\0" * 32)),
        (500, (FAR, 0, b"\1" * 32, b"\1" * 32)),
    ):
        arguments = (payer.address, payer.address, amount, *permit)
        assert (
            contracts.refuses("depositWithPermit", *arguments, sender=stranger.address) == refused
        )
    assert contracts.balance(payer.address) == 900


def test_a_permit_brings_one_deposit_also_where_somebody_was_faster_with_the_same_call(
    contracts: Contracts, chain: DevChain
) -> None:
    payer, faster = chain.accounts[0], str(chain.accounts[5].address)
    give(contracts, payer.address, 1000)
    permit = contracts.permit(payer, 100)
    arguments = (payer.address, payer.address, 100, *permit)
    contracts.send("depositWithPermit", *arguments, sender=faster)
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 2**255), payer.address)
    for sender in (payer.address, faster):
        assert contracts.refuses("depositWithPermit", *arguments, sender=sender) == (
            "PermitRefused",
            payer.address,
        )
    assert contracts.balance(payer.address) == 900


def test_a_consumed_permit_ends_with_its_deadline(contracts: Contracts, chain: DevChain) -> None:
    payer, relay = chain.accounts[0], str(chain.accounts[5].address)
    give(contracts, payer.address, 1000)
    deadline, *parts = contracts.permit(payer, 300, deadline=contracts.now + 100)
    contracts.sent(
        contracts.ifm.functions.permit(payer.address, contracts.address, 300, deadline, *parts),
        relay,
    )
    contracts.at(deadline + 1)
    arguments = (payer.address, payer.address, 300, deadline, *parts)
    assert contracts.refuses("depositWithPermit", *arguments, sender=relay) == (
        "PermitRefused",
        payer.address,
    )
    # Its signer has approved, and now agrees once more by sending it.
    contracts.send("depositWithPermit", *arguments, sender=payer.address)


def test_without_an_approval_not_even_the_signer_gets_through(
    contracts: Contracts, chain: DevChain
) -> None:
    payer = chain.accounts[0]
    give(contracts, payer.address, 1000)
    wrong = contracts.permit(Account.create(), 300)
    arguments = (payer.address, payer.address, 300, *wrong)
    assert contracts.refuses("depositWithPermit", *arguments, sender=payer.address) == (
        "ERC20InsufficientAllowance",
        contracts.address,
        0,
        300,
    )
