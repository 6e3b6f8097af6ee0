"""What people do on the chain of a test, and what is read of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import F
from eth_account import Account as Keys

from billing.epochs import opening
from billing.epochs import services as epochs
from billing.epochs.models import Epoch
from billing.ledger import queries as ledger
from billing.ledger.models import Account
from billing.payouts import services
from billing.payouts.models import Cursor, Event
from inframind.chain import events
from inframind.chain.client import Chain, chain_at
from inframind.chain.contracts import Contracts
from inframind.identity.models import Wallet
from inframind.lib import calldata
from tests.chains import DevChain

IFM = 10**18


@dataclass(frozen=True)
class People:
    """The chain's accounts at work. Transactions are mined at once unless the test stops that."""

    chain: DevChain

    @property
    def client(self) -> Chain:
        return chain_at(self.chain.rpc_url, 31_337)

    @property
    def contracts(self) -> Contracts:
        return Contracts(self.client, self.chain.ifm, self.chain.settlement)

    def address(self, number: int) -> str:
        return str(self.chain.accounts[number].address)

    def wallet(self, number: int) -> Wallet:
        return Wallet.objects.of(self.address(number))

    def send(self, sender: str, to: str, data: bytes, **more: Any) -> str:
        """The hash of a transaction of an account that the node signs for."""
        return self.chain.send(sender, to, data, **({"gas": hex(1_000_000)} | more))

    def receipt(self, transaction_hash: str) -> Any:
        return self.chain.receipt(transaction_hash)

    def give(self, to: str, amount: int) -> str:
        """IFM from the operator, who has all of it."""
        return self.send(self.chain.operator.address, self.chain.ifm, calldata.transfer(to, amount))

    def deposit(self, number: int, amount: int, *, account: str = "") -> str:
        """A deposit of account ``number``, for itself or for another; three blocks."""
        sender = self.address(number)
        self.give(sender, amount)
        self.send(sender, self.chain.ifm, calldata.approve(self.chain.settlement, amount))
        return self.send(sender, self.chain.settlement, calldata.deposit(account or sender, amount))

    def send_unsigned(self, number: int, made: services.UnsignedTransaction) -> str:
        """Signs what the API handed out, as a wallet does, and has it relayed."""
        raw = sign(made, self.chain.accounts[number].key)
        return services.relay_signed(self.wallet(number), raw)

    def mine(self, blocks: int = 1) -> None:
        self.chain.rpc("anvil_mine", hex(blocks))

    def status(self, transaction_hash: str) -> int:
        return int(self.receipt(transaction_hash)["status"], 16)

    def ifm_of(self, address: str) -> int:
        return self.contracts.ifm_of(address)

    def roots(self) -> list[int]:
        """The epochs of all RootProposed events on chain, in their order."""
        logs = self.client.logs(
            {self.chain.settlement},
            [events.topic_of("RootProposed")],
            self.chain.block,
            self.client.head().number,
        )
        return [int.from_bytes(log.topics[1], "big") for log in logs]


def sign(made: services.UnsignedTransaction, key: bytes) -> bytes:
    document = made.as_document()["transaction"]
    return bytes(Keys.sign_transaction(document, key).raw_transaction)


def balance(address: str) -> int:
    return ledger.balance_of(address).balance_base_units


def available(address: str) -> int:
    return ledger.balance_of(address).available_base_units


def cursor() -> tuple[int, str, str] | None:
    found = Cursor.objects.first()
    return None if found is None else (found.block_number, found.block_hash, found.state)


def everything() -> tuple[Any, ...]:
    """All that following writes: what must not change while a node lies."""
    return (
        cursor(),
        list(Event.objects.values_list("transaction_hash", "log_index", "amount_base_units")),
        dict(Account.objects.values_list("code", "posted_base_units")),
    )


def sealed_epoch(payer: str, owner: str, operator: str, fee: int, calls: int = 1) -> Epoch:
    """An epoch in which ``payer``, who has the balance, called a model of ``owner``; closed."""
    number = opening.current().number
    with connection.cursor() as database:
        batch = uuid.uuid4()
        for position in range(calls):
            database.execute(
                "INSERT INTO kept_receipt (id, epoch, batch, position, wallet, owner, operator,"
                " model, hidden, node, fee, version, commitment, batch_time)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, 'summarizer-v1', false, 'node-a', %s, 1,"
                " %s, %s)",
                [
                    uuid.uuid4(), number, batch, position, payer, owner, operator, fee,
                    uuid.uuid4().bytes * 2, 1_700_000_000_000_000 + number,
                ],
            )  # fmt: skip
    Account.objects.filter(code=f"wallet:{payer}").update(
        charged_base_units=F("charged_base_units") + fee * calls
    )
    return epochs.close(number, at_once=True)
