"""Who may do what, how it is stopped, and how the admin changes."""

from __future__ import annotations

import pytest
from eth_utils.crypto import keccak
from web3 import Web3

from inframind.chain.artefacts import abi, bytecode
from inframind.chain.deploy import deploy
from inframind.devstack.chain import DAILY_CAP, SUPPLY
from tests.billing.contracts.onchain import FAR, Contracts, Tree, refusal, stream
from tests.chains import DevChain

ADMIN = b"\0" * 32


@pytest.fixture
def stranger(chain: DevChain) -> str:
    return str(chain.accounts[4].address)


def test_each_step_asks_for_its_role(contracts: Contracts, stranger: str) -> None:
    contracts.fund(10)
    for call, role in (
        (("proposeRoot", 1, b"\1" * 32, 1, ""), keccak(text="PROPOSER_ROLE")),
        (("revokeRoot", 1), keccak(text="GUARDIAN_ROLE")),
        (("pause",), keccak(text="PAUSER_ROLE")),
        (("unpause",), ADMIN),
        (("setDailyWithdrawalCap", 1), ADMIN),
        (("grantRole", keccak(text="PROPOSER_ROLE"), stranger), ADMIN),
        (("beginDefaultAdminTransfer", stranger), ADMIN),
    ):
        assert contracts.refuses(*call, sender=stranger) == (
            "AccessControlUnauthorizedAccount",
            stranger,
            role,
        )


def test_a_guardian_of_its_own_may_revoke_and_pause_and_nothing_else(
    chain: DevChain, stranger: str
) -> None:
    deployed = deploy(
        chain.rpc_url,
        chain.key,
        challenge_seconds=1000,
        admin_delay_seconds=0,
        daily_cap=DAILY_CAP,
        supply=SUPPLY,
        guardian=stranger,
    )
    contracts = Contracts(chain, deployed.ifm, deployed.settlement)
    contracts.fund(10)
    contracts.send("proposeRoot", 1, b"\1" * 32, 10, "")
    assert contracts.refuses("revokeRoot", 1)[0] == "AccessControlUnauthorizedAccount"
    assert contracts.refuses("pause")[0] == "AccessControlUnauthorizedAccount"
    contracts.send("revokeRoot", 1, sender=stranger)
    contracts.send("pause", sender=stranger)
    assert contracts.refuses("unpause", sender=stranger)[0] == "AccessControlUnauthorizedAccount"
    contracts.send("unpause")


def test_a_pause_stops_all_that_moves_tokens_and_new_roots(
    contracts: Contracts, chain: DevChain
) -> None:
    account = chain.accounts[0]
    leaf = (account.address, stream("model:one"), 5)
    tree = Tree([leaf])
    contracts.fund(10)
    contracts.send("proposeRoot", 1, tree.root, 5, "")
    contracts.sent(contracts.ifm.functions.transfer(account.address, 10), contracts.operator)
    contracts.sent(contracts.ifm.functions.approve(contracts.address, 10), contracts.operator)
    contracts.send("pause")
    calls = (
        ("deposit", account.address, 1),
        (
            "depositWithPermit",
            account.address,
            account.address,
            1,
            *contracts.permit(account, 1),
        ),
        ("proposeRoot", 2, tree.root, 5, ""),
        ("claim", *leaf, tree.proof(leaf)),
        ("claimMany", [(*leaf, tree.proof(leaf))]),
        ("withdraw", account.address, 1, FAR, contracts.voucher(account.address, 1)),
    )
    for call in calls:
        assert contracts.refuses(*call) == ("EnforcedPause",)
    contracts.send("unpause")
    for call in calls:
        if call[0] != "claimMany":
            contracts.send(*call)
    assert contracts.balance(account.address) == 10 - 1 + 5 + 1


def test_a_pending_root_can_be_revoked_during_a_pause(chain: DevChain) -> None:
    contracts = Contracts.fresh(chain, challenge=1000)
    contracts.fund(10)
    contracts.send("proposeRoot", 1, b"\1" * 32, 10, "")
    contracts.send("pause")
    contracts.send("revokeRoot", 1)
    assert contracts.read("pendingEpoch") == 0


def test_the_admin_changes_in_two_steps(contracts: Contracts, stranger: str) -> None:
    old = contracts.operator
    assert contracts.read("defaultAdmin") == old
    # Granting it like another role would make a second admin.
    assert contracts.refuses("grantRole", ADMIN, stranger) == (
        "AccessControlEnforcedDefaultAdminRules",
    )
    assert contracts.refuses("acceptDefaultAdminTransfer", sender=stranger) == (
        "AccessControlInvalidDefaultAdmin",
        stranger,
    )
    contracts.send("beginDefaultAdminTransfer", stranger)
    contracts.at(contracts.now + 1)
    assert contracts.read("defaultAdmin") == old
    contracts.send("acceptDefaultAdminTransfer", sender=stranger)
    assert contracts.read("defaultAdmin") == stranger
    assert contracts.refuses("setDailyWithdrawalCap", 1) == (
        "AccessControlUnauthorizedAccount",
        old,
        ADMIN,
    )
    contracts.send("setDailyWithdrawalCap", 1, sender=stranger)


def test_a_hand_over_waits_and_can_be_cancelled(chain: DevChain, stranger: str) -> None:
    deployed = deploy(
        chain.rpc_url,
        chain.key,
        challenge_seconds=0,
        admin_delay_seconds=3600,
        daily_cap=DAILY_CAP,
        supply=SUPPLY,
    )
    contracts = Contracts(chain, deployed.ifm, deployed.settlement)
    contracts.send("beginDefaultAdminTransfer", stranger)
    at = contracts.now + 3600
    assert contracts.refuses("acceptDefaultAdminTransfer", sender=stranger) == (
        "AccessControlEnforcedDefaultAdminDelay",
        at,
    )
    contracts.send("cancelDefaultAdminTransfer")
    contracts.at(at + 1)
    assert contracts.refuses("acceptDefaultAdminTransfer", sender=stranger) == (
        "AccessControlInvalidDefaultAdmin",
        stranger,
    )


def test_the_settlement_needs_a_token_and_an_admin(contracts: Contracts, stranger: str) -> None:
    settlement = contracts.web3.eth.contract(abi=abi("Settlement"), bytecode=bytecode("Settlement"))
    nobody = Web3.to_checksum_address("0x" + "00" * 20)
    for arguments, error in (
        ((stranger, stranger, 0, 0, 1), ("NotAContract", stranger)),
        (
            (contracts.ifm_address, nobody, 0, 0, 1),
            ("AccessControlInvalidDefaultAdmin", nobody),
        ),
    ):
        constructor = settlement.constructor(*arguments)
        data = constructor.build_transaction({"gas": 1, "nonce": 0, "gasPrice": 1, "chainId": 1})
        assert refusal(_Raw(contracts.web3, data["data"]), contracts.operator) == error


class _Raw:
    """A deployment, asked about like a call."""

    def __init__(self, web3: Web3, data: object) -> None:
        self._web3, self._data = web3, data

    def call(self, transaction: dict[str, object], block: str) -> object:
        return self._web3.eth.call({**transaction, "data": self._data}, block)  # type: ignore[typeddict-item,arg-type]
