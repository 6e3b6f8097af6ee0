"""Unspent balance goes back by a signed voucher: once, in time, below the cap, of what is free."""

from __future__ import annotations

import pytest
from eth_account import Account
from web3.exceptions import Web3RPCError

from tests.billing.contracts.onchain import DAY, FAR, Contracts, Tree, stream
from tests.chains import DevChain

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture
def account(chain: DevChain) -> str:
    return str(chain.accounts[2].address)


def test_a_voucher_pays_its_account_whoever_sends_it(
    contracts: Contracts, chain: DevChain, account: str
) -> None:
    contracts.fund(1000, account)
    voucher = contracts.voucher(account, 300)
    events = contracts.send(
        "withdraw", account, 300, FAR, voucher, sender=chain.accounts[7].address
    )
    assert events == [{"event": "Withdrawn", "account": account, "amount": 300, "cumulative": 300}]
    assert contracts.balance(account) == 300
    assert contracts.read("withdrawn", account) == 300
    assert contracts.read("withdrawnToday") == 300
    assert contracts.state() == {
        "tokens": 700,
        "totalDeposited": 1000,
        "totalClaimed": 0,
        "totalWithdrawn": 300,
        "held": 700,
        "rootEpoch": 0,
    }


def test_vouchers_are_cumulative_so_none_pays_twice_in_any_order(
    contracts: Contracts, account: str
) -> None:
    contracts.fund(1000, account)
    first, second = contracts.voucher(account, 300), contracts.voucher(account, 500)
    contracts.send("withdraw", account, 500, FAR, second)
    for cumulative, voucher in ((500, second), (300, first), (0, contracts.voucher(account, 0))):
        assert contracts.refuses("withdraw", account, cumulative, FAR, voucher) == (
            "NothingToWithdraw",
            account,
            500,
        )
    third = contracts.voucher(account, 501)
    [event] = contracts.send("withdraw", account, 501, FAR, third)
    assert event["amount"] == 1
    assert contracts.balance(account) == 501


def test_a_voucher_ends_with_its_deadline(contracts: Contracts, account: str) -> None:
    contracts.fund(1000, account)
    deadline = contracts.now + 1000
    voucher = contracts.voucher(account, 300, deadline=deadline)
    contracts.at(deadline + 1)
    assert contracts.refuses("withdraw", account, 300, deadline, voucher) == (
        "VoucherExpired",
        deadline,
    )
    # Nor can somebody else move the deadline.
    error = contracts.refuses("withdraw", account, 300, FAR, voucher)
    assert error[0] == "UnauthorizedVoucher"


def test_a_voucher_is_for_its_account_amount_chain_and_contract(
    contracts: Contracts, chain: DevChain, account: str
) -> None:
    contracts.fund(1000, account)
    good = contracts.voucher(account, 300)
    other = str(chain.accounts[3].address)
    wrong = [
        (other, 300, good),
        (account, 301, good),
        (account, 300, contracts.voucher(account, 300, chainId=1)),
        (account, 300, contracts.voucher(account, 300, verifyingContract=contracts.ifm_address)),
        (account, 300, contracts.voucher(account, 300, version="2")),
        (account, 300, contracts.voucher(account, 300, name="InfraMind")),
    ]
    for who, cumulative, voucher in wrong:
        name, signer = contracts.refuses("withdraw", who, cumulative, FAR, voucher)
        assert name == "UnauthorizedVoucher"
        assert signer != contracts.operator
    contracts.send("withdraw", account, 300, FAR, good)


def test_a_voucher_by_another_key_is_refused(
    contracts: Contracts, chain: DevChain, account: str
) -> None:
    contracts.fund(1000, account)
    forger = chain.accounts[2]
    voucher = contracts.voucher(account, 300, key="0x" + bytes(forger.key).hex())
    assert contracts.refuses("withdraw", account, 300, FAR, voucher) == (
        "UnauthorizedVoucher",
        forger.address,
    )


def test_a_signature_has_one_form(contracts: Contracts, account: str) -> None:
    contracts.fund(1000, account)
    good = contracts.voucher(account, 300)
    high = ORDER - int.from_bytes(good[32:64])
    flipped = good[:32] + high.to_bytes(32) + bytes([27 + 28 - good[64]])
    for voucher, error in (
        (flipped, ("ECDSAInvalidSignatureS", high.to_bytes(32))),
        (good[:64], ("ECDSAInvalidSignatureLength", 64)),
        (good + b"\0", ("ECDSAInvalidSignatureLength", 66)),
        (b"", ("ECDSAInvalidSignatureLength", 0)),
        (good[:64] + b"\x1d", ("ECDSAInvalidSignature",)),
        (b"\0" * 64 + b"\x1b", ("ECDSAInvalidSignature",)),
    ):
        assert contracts.refuses("withdraw", account, 300, FAR, voucher) == error


def test_a_key_that_lost_its_role_signs_for_nothing(contracts: Contracts, account: str) -> None:
    contracts.fund(1000, account)
    voucher = contracts.voucher(account, 300)
    role = contracts.read("VOUCHER_ROLE")
    contracts.send("revokeRole", role, contracts.operator)
    assert contracts.refuses("withdraw", account, 300, FAR, voucher) == (
        "UnauthorizedVoucher",
        contracts.operator,
    )


def test_the_cap_is_of_all_withdrawals_of_a_day_and_begins_again_at_midnight(
    chain: DevChain, account: str
) -> None:
    contracts = Contracts.fresh(chain, cap=100)
    contracts.fund(1000)
    other = str(chain.accounts[3].address)
    midnight = (contracts.now // DAY + 2) * DAY
    contracts.at(midnight - 600)
    contracts.send("withdraw", account, 60, FAR, contracts.voucher(account, 60))
    assert contracts.refuses("withdraw", other, 41, FAR, contracts.voucher(other, 41)) == (
        "DailyCapExceeded",
        41,
        40,
    )
    contracts.send("withdraw", other, 40, FAR, contracts.voucher(other, 40))
    assert contracts.read("withdrawnToday") == 100
    contracts.at(midnight - 60)
    late = contracts.voucher(account, 61)
    assert contracts.refuses("withdraw", account, 61, FAR, late) == ("DailyCapExceeded", 1, 0)

    contracts.at(midnight)
    assert contracts.read("withdrawnToday") == 0
    contracts.send("withdraw", account, 160, FAR, contracts.voucher(account, 160))
    assert contracts.refuses("withdraw", other, 41, FAR, contracts.voucher(other, 41)) == (
        "DailyCapExceeded",
        1,
        0,
    )
    assert (contracts.balance(account), contracts.balance(other)) == (160, 40)


def test_a_cap_that_was_lowered_below_today_stops_the_day(
    contracts: Contracts, account: str
) -> None:
    contracts.fund(1000)
    contracts.send("withdraw", account, 60, FAR, contracts.voucher(account, 60))
    assert contracts.send("setDailyWithdrawalCap", 50) == [
        {"event": "DailyWithdrawalCapSet", "cap": 50}
    ]
    assert contracts.refuses("withdraw", account, 61, FAR, contracts.voucher(account, 61)) == (
        "DailyCapExceeded",
        1,
        0,
    )


def test_what_the_newest_root_owes_is_not_free(contracts: Contracts, chain: DevChain) -> None:
    earner, spender = str(chain.accounts[0].address), str(chain.accounts[1].address)
    leaf = (earner, stream("model:one"), 700)
    tree = Tree([leaf])
    contracts.fund(1000)
    contracts.send("proposeRoot", 1, tree.root, 700, "")
    # What was sent by a plain transfer is not there to be withdrawn either.
    contracts.sent(contracts.ifm.functions.transfer(contracts.address, 500), contracts.operator)
    assert contracts.refuses("withdraw", spender, 301, FAR, contracts.voucher(spender, 301)) == (
        "InsufficientHoldings",
        301,
        300,
    )
    contracts.send("withdraw", spender, 300, FAR, contracts.voucher(spender, 300))
    contracts.send("claim", *leaf, tree.proof(leaf))
    assert contracts.refuses("withdraw", spender, 301, FAR, contracts.voucher(spender, 301)) == (
        "InsufficientHoldings",
        1,
        0,
    )
    assert contracts.read("held") == 0
    assert (contracts.balance(earner), contracts.balance(spender)) == (700, 300)


def test_a_pending_root_counts_as_owed_already(chain: DevChain) -> None:
    contracts = Contracts.fresh(chain, challenge=DAY)
    account = str(chain.accounts[1].address)
    leaf = (account, stream("model:one"), 700)
    contracts.fund(1000)
    contracts.send("proposeRoot", 1, Tree([leaf]).root, 700, "")
    assert contracts.refuses("withdraw", account, 301, FAR, contracts.voucher(account, 301)) == (
        "InsufficientHoldings",
        301,
        300,
    )


def test_a_transaction_for_another_chain_is_refused(contracts: Contracts, chain: DevChain) -> None:
    sender = chain.accounts[0]
    call = contracts.settlement.functions.pause()
    transaction = {
        "to": contracts.address,
        "data": call._encode_transaction_data(),
        "nonce": contracts.web3.eth.get_transaction_count(sender.address),
        "gas": 100_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 1,
        "chainId": 1,
    }
    signed = Account.sign_transaction(transaction, sender.key)
    with pytest.raises(Web3RPCError, match="invalid chain id"):
        contracts.web3.eth.send_raw_transaction(signed.raw_transaction)
