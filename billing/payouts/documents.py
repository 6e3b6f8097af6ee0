"""Requests and documents of the REST API of money on its way to and from the chain."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.ledger.documents import AmountDocument, AmountField, StrictRequest
from billing.payouts.models import Transaction, Withdrawal
from billing.payouts.transactions import UnsignedTransaction

SIGNATURE_MAX_BYTES = 1_000  # a contract wallet's may be long
RAW_MAX_BYTES = 128 << 10  # the most that a node takes
STREAMS_MAX = 200
DEADLINE_MAX = 2**63 - 1


@extend_schema_field(OpenApiTypes.STR)
class HexField(serializers.Field[bytes, Any, Any, Any]):
    """``0x`` and hexadecimal digits; ``bytes`` once it is read, as many as asked for."""

    def __init__(self, *, max_bytes: int, min_bytes: int = 1, **kwargs: Any) -> None:
        self.min_bytes, self.max_bytes = min_bytes, max_bytes
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> bytes:
        """The bytes."""
        text = data if isinstance(data, str) else ""
        if len(text) > 2 + 2 * self.max_bytes:
            raise serializers.ValidationError(f"It has {self.max_bytes} bytes at most.")
        try:
            octets = bytes.fromhex(text[2:]) if text[:2] == "0x" and text.isascii() else b""
        except ValueError:
            octets = b""
        # fromhex lets spaces pass.
        if len(octets) < self.min_bytes or len(text) != 2 + 2 * len(octets):
            raise serializers.ValidationError("Write it as 0x and pairs of hexadecimal digits.")
        return octets

    def to_representation(self, value: Any) -> str:
        """As it is read again."""
        return "0x" + bytes(value).hex()


class StrictBooleanField(serializers.BooleanField):
    """JSON's true or false: ``"no"`` is neither."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Write true or false.")
        return data


class DepositRequest(StrictRequest):
    amount = AmountField(help_text='"2.5 IFM"')
    deadline = serializers.IntegerField(
        required=False, min_value=1, max_value=DEADLINE_MAX, help_text="Unix seconds, as signed."
    )
    signature = HexField(
        required=False, max_bytes=SIGNATURE_MAX_BYTES, help_text="The wallet's, of the permit."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("deadline" in attrs) != ("signature" in attrs):
            missing = "signature" if "deadline" in attrs else "deadline"
            raise serializers.ValidationError(
                {missing: "A permit has both: the signature, and the deadline that was signed."}
            )
        return attrs


class WithdrawalRequest(StrictRequest):
    amount = AmountField(help_text='"2.5 IFM"')
    relay = StrictBooleanField(default=False, help_text="Whether we send it, at our expense.")


class RawRequest(StrictRequest):
    raw = HexField(max_bytes=RAW_MAX_BYTES, help_text="The signed transaction.")


class ClaimRequest(StrictRequest):
    streams = serializers.ListField(
        child=HexField(max_bytes=32, min_bytes=32),
        required=False,
        min_length=1,
        max_length=STREAMS_MAX,
        help_text="Their ids; absent: every one.",
    )
    relay = StrictBooleanField(default=False, help_text="Whether we send it, at our expense.")


class RelayDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(choices=Transaction.State.choices)
    hash = serializers.CharField(allow_null=True, help_text="Of what was sent last.")


class RelayedDocument(serializers.Serializer[Any]):
    relay = RelayDocument()


class UnsignedDocument(serializers.Serializer[Any]):
    what = serializers.CharField(help_text="What it does, in words.")
    transaction = serializers.DictField(help_text="As wallets take it: EIP-1559, numbers as 0x.")


class UnsignedListDocument(serializers.Serializer[Any]):
    transactions = UnsignedDocument(many=True, help_text="To be signed and sent in this order.")


class DepositDocument(serializers.Serializer[Any]):
    transaction = serializers.CharField()
    amount = AmountDocument()
    from_ = serializers.CharField()
    state = serializers.ChoiceField(choices=["confirming", "credited"])
    confirmations = serializers.IntegerField()
    needed = serializers.IntegerField()
    at = serializers.DateTimeField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """``from`` is a word of Python's."""
        fields = super().get_fields()
        return {name.rstrip("_"): field for name, field in fields.items()}


class DepositsDocument(serializers.Serializer[Any]):
    results = DepositDocument(many=True)


class WithdrawalDocument(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    amount = AmountDocument()
    cumulative = serializers.CharField(help_text="What the voucher says; base units.")
    deadline = serializers.IntegerField(help_text="Unix seconds.")
    signature = serializers.CharField()
    state = serializers.ChoiceField(choices=Withdrawal.State.choices)
    created_at = serializers.DateTimeField()
    transaction = UnsignedDocument(allow_null=True)
    relay = RelayDocument(allow_null=True)


class WithdrawalsDocument(serializers.Serializer[Any]):
    results = WithdrawalDocument(many=True)


class HashDocument(serializers.Serializer[Any]):
    hash = serializers.CharField()


class SentDocument(serializers.Serializer[Any]):
    hash = serializers.CharField(allow_null=True, help_text="None: we have not sent it yet.")
    state = serializers.ChoiceField(choices=["pending", "mined", "reverted", "unknown"])
    block = serializers.IntegerField(allow_null=True)
    confirmations = serializers.IntegerField()


class ParametersDocument(serializers.Serializer[Any]):
    version = serializers.IntegerField()
    node_bps = serializers.IntegerField()
    owner_bps = serializers.IntegerField()
    treasury_bps = serializers.IntegerField()
    epoch_seconds = serializers.IntegerField()


class OpenEpochDocument(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    ends_at = serializers.DateTimeField()


class ProtocolDocument(serializers.Serializer[Any]):
    chain_id = serializers.IntegerField()
    ifm = serializers.CharField(allow_null=True)
    settlement = serializers.CharField(allow_null=True)
    confirmations = serializers.IntegerField()
    gateway_signer = serializers.CharField(help_text="Signs the receipts.")
    voucher_signer = serializers.CharField(allow_null=True, help_text="Signs the withdrawals.")
    challenge_seconds = serializers.IntegerField(allow_null=True)
    faucet = serializers.BooleanField()
    parameters = ParametersDocument()
    epoch = OpenEpochDocument()


class EarningDocument(serializers.Serializer[Any]):
    epoch = serializers.IntegerField()
    share = serializers.CharField()
    calls = serializers.IntegerField()
    gross = AmountDocument()
    amount = AmountDocument()
    bps = serializers.IntegerField()


class RewardDocument(serializers.Serializer[Any]):
    stream = serializers.CharField(help_text="Its id: 32 bytes, 0x….")
    subject = serializers.CharField(help_text="model:… or node:…; a private one's as well.")
    cumulative = AmountDocument(help_text="What the leaf of the claimable root says.")
    claimed = AmountDocument()
    claimable = AmountDocument()
    pending = AmountDocument(help_text="Sealed, not claimable yet.")
    proof = serializers.ListField(child=serializers.CharField())
    epochs = EarningDocument(many=True)


class RewardsDocument(serializers.Serializer[Any]):
    wallet = serializers.CharField()
    epoch = serializers.IntegerField(allow_null=True, help_text="Whose root the contract pays by.")
    root = serializers.CharField(allow_null=True)  # type: ignore[assignment] # a field's name here
    results = RewardDocument(many=True)
    claimable = AmountDocument()


class ClaimDocument(serializers.Serializer[Any]):
    transactions = UnsignedDocument(many=True)
    relay = RelayDocument(allow_null=True)


@extend_schema_field(OpenApiTypes.OBJECT)
class TypedDataDocument(serializers.Serializer[Any]):
    """EIP-712 typed data, as ``eth_signTypedData_v4`` takes it."""

    types = serializers.DictField()
    primaryType = serializers.CharField()
    domain = serializers.DictField()
    message = serializers.DictField()


def unsigned_document(made: UnsignedTransaction) -> dict[str, Any]:
    """A transaction to sign, as ``UnsignedDocument`` has it."""
    return {
        "what": made.what,
        "transaction": {
            "type": "0x2",
            "chainId": hex(made.chain_id),
            "nonce": hex(made.nonce),
            "to": made.to,
            "data": "0x" + made.data.hex(),
            "value": hex(made.value),
            "gas": hex(made.gas),
            "maxFeePerGas": hex(made.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(made.max_priority_fee_per_gas),
        },
    }


def relay_document(row: Transaction) -> dict[str, Any]:
    """A transaction that we send, as ``RelayDocument`` has it."""
    return {"id": str(row.pk), "state": row.state, "hash": hash_of(row) or None}


def hash_of(row: Transaction) -> str:
    """The one that was mined, else the one that was sent last, else ""."""
    return row.mined_hash or (row.hashes[-1] if row.hashes else "")
