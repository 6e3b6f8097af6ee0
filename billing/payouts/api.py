"""REST of deposits, withdrawals and what wallets sign for them. No user needs a node of the chain:
transactions are handed out unsigned and passed on signed."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer
from drf_spectacular.utils import extend_schema as describe
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.epochs.opening import current
from billing.epochs.queries import latest_parameters, shares_of
from billing.ledger.documents import StrictRequest, read_amount
from billing.payouts import documents, queries, services
from billing.payouts.models import Transaction, Withdrawal
from inframind.identity.api import caller_of
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from inframind.lib import receipts, secp256k1
from inframind.lib.addresses import checksum_address
from inframind.lib.amounts import amount_document
from inframind.lib.problem import Problem, Violation, not_found

_ROWS: Final = 50
_HASH: Final = re.compile(r"0x[0-9a-fA-F]{64}", re.ASCII)
_STATE_OF_RELAY: Final = {
    Transaction.State.MINED: "mined",
    Transaction.State.CONFIRMED: "mined",
    Transaction.State.FAILED: "reverted",
}
_DEPOSITED: Final = PolymorphicProxySerializer(
    component_name="DepositAnswer",
    serializers=[documents.UnsignedListDocument, documents.RelayedDocument],
    resource_type_field_name=None,
)


@permitted(GET="site.read")
class ProtocolView(APIView):
    """What a wallet holds against what it is asked to sign: chain, contracts, signers, shares."""

    @describe(operation_id="protocol", responses=documents.ProtocolDocument, auth=[])
    def get(self, request: Request) -> Response:
        """The same for everybody."""
        epoch, latest = current(), latest_parameters()
        shares = shares_of(latest)
        said = queries.protocol()
        key = receipts.signing_key(settings.GATEWAY_KEY, settings.SECRET_KEY)
        return Response(
            {
                "chain_id": settings.CHAIN_ID,
                "ifm": _address(settings.IFM_ADDRESS),
                "settlement": _address(settings.SETTLEMENT_ADDRESS),
                "confirmations": settings.CHAIN_CONFIRMATIONS,
                "gateway_signer": secp256k1.address_of_key(key),
                "voucher_signer": said.voucher_signer,
                "challenge_seconds": said.challenge_seconds,
                "faucet": settings.FAUCET,
                "parameters": {
                    "version": latest.version,
                    "node_bps": shares["node"],
                    "owner_bps": shares["owner"],
                    "treasury_bps": shares["treasury"],
                    "epoch_seconds": latest.epoch_seconds,
                },
                "epoch": {"number": epoch.number, "ends_at": epoch.ends_at},
            }
        )


@permitted(GET="usage.read", POST="funds.move")
class DepositsView(APIView):
    """Deposits into the prepaid balance."""

    @describe(operation_id="deposits_list", responses=documents.DepositsDocument)
    def get(self, request: Request) -> Response:
        """The newest 50 that the chain has confirmed, and before them those that wait for it."""
        found = queries.deposits_of(caller_of(request).address, limit=_ROWS)
        return Response(
            {
                "results": [
                    {
                        "transaction": each.transaction,
                        "amount": amount_document(each.amount_base_units),
                        "from": each.sender,
                        "state": "credited" if each.is_credited else "confirming",
                        "confirmations": each.confirmations,
                        "needed": each.needed,
                        "at": each.at,
                    }
                    for each in found
                ]
            }
        )

    @describe(
        operation_id="deposits_make",
        request=documents.DepositRequest,
        responses={
            200: OpenApiResponse(_DEPOSITED, description="Without a permit: what to sign."),
            202: OpenApiResponse(documents.RelayedDocument, description="With one: we send it."),
        },
    )
    def post(self, request: Request) -> Response:
        """With an amount alone: the transactions to sign and send. With a permit: we send it."""
        given = _read(documents.DepositRequest, request)
        wallet = _wallet(request)
        if "signature" in given:
            row = services.relay_deposit(
                wallet, given["amount"], given["deadline"], given["signature"]
            )
            return Response({"relay": documents.relay_document(row)}, status=202)
        unsigned = services.unsigned_deposit(wallet, given["amount"])
        return Response({"transactions": [documents.unsigned_document(each) for each in unsigned]})


@permitted(GET="funds.move")
class PermitView(APIView):
    """What a wallet signs so that we may send a deposit for it."""

    @describe(
        operation_id="deposits_permit",
        parameters=[OpenApiParameter("amount", str, required=True, description='"2.5 IFM"')],
        responses=documents.TypedDataDocument,
    )
    def get(self, request: Request) -> Response:
        """Typed data (EIP-712): an ERC-2612 permit for the settlement contract, for an hour."""
        amount = amount_asked(request.query_params.get("amount", ""))
        return Response(services.permit_for(_wallet(request), amount))


@permitted(GET="usage.read", POST="funds.move")
class WithdrawalsView(APIView):
    """Unspent balance on its way back to its wallet."""

    @describe(operation_id="withdrawals_list", responses=documents.WithdrawalsDocument)
    def get(self, request: Request) -> Response:
        """The newest 50; the open one with the transaction that pays it."""
        found = list(queries.withdrawals_of(caller_of(request).address)[:_ROWS])
        keys = [_key(each) for each in found]
        relays = {each.key: each for each in Transaction.objects.filter(key__in=keys)}
        return Response({"results": [_withdrawal(each, relays.get(_key(each))) for each in found]})

    @describe(
        operation_id="withdrawals_begin",
        request=documents.WithdrawalRequest,
        responses={201: documents.WithdrawalDocument},
    )
    def post(self, request: Request) -> Response:
        """Set an amount aside and get the voucher that releases it; with `relay` we send it."""
        given = _read(documents.WithdrawalRequest, request)
        found = services.begin_withdrawal(_wallet(request), given["amount"])
        relay = None
        if given["relay"]:
            try:
                relay = services.relay_withdrawal(found)
            except Problem:
                # The voucher is there and good; the wallet can send it itself.
                relay = None
        return Response(_withdrawal(found, relay), status=201)


@permitted(POST="funds.move")
class TransactionsView(APIView):
    """Transactions that the wallet signed."""

    @describe(
        operation_id="transactions_send",
        request=documents.RawRequest,
        responses={202: documents.HashDocument},
    )
    def post(self, request: Request) -> Response:
        """Pass one on to the chain: only what was handed out here, signed by this very wallet."""
        given = _read(documents.RawRequest, request)
        return Response({"hash": services.relay_signed(_wallet(request), given["raw"])}, status=202)


@permitted(GET="usage.read")
class TransactionView(APIView):
    """What the chain knows of a transaction."""

    @describe(operation_id="transactions_show", responses=documents.SentDocument)
    def get(self, request: Request, hash: str) -> Response:
        """Whether it is in a block, how it went, and how many blocks confirm it. One that we send
        goes by its relay's id as well, since it may have no hash yet, or another later."""
        if (relayed := _relayed(request, hash)) is not None:
            return Response(relayed)
        if _HASH.fullmatch(hash) is None:
            raise not_found("transaction with this hash", "It is 0x and 64 digits.")
        found = queries.transaction_state(hash)
        return Response(
            {
                "hash": found.hash,
                "state": found.state,
                "block": found.block,
                "confirmations": found.confirmations,
            }
        )


@permitted(POST="funds.move")
class FaucetView(APIView):
    """Test IFM, on a development chain."""

    @describe(operation_id="faucet", request=None, responses={202: documents.RelayedDocument})
    def post(self, request: Request) -> Response:
        """Some IFM for the wallet, and ETH for gas where it has none; once an hour."""
        row = services.faucet(_wallet(request))
        return Response({"relay": documents.relay_document(row)}, status=202)


def amount_asked(text: str) -> int:
    """The amount of a query, in base units. Raises a 422 ``Problem``."""
    try:
        return read_amount(text)
    except ValueError as error:
        raise Problem(
            "invalid-request",
            f"The amount cannot be used. {error}",
            status=422,
            violations=(Violation("/amount", str(error)),),
            remedy="Ask with ?amount=2.5+IFM, say.",
        ) from None


def _withdrawal(row: Withdrawal, relay: Transaction | None) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        "amount": amount_document(row.amount_base_units),
        "cumulative": str(int(row.cumulative_base_units)),
        "deadline": int(row.deadline.timestamp()),
        "signature": "0x" + bytes(row.signature).hex(),
        "state": row.state,
        "created_at": row.created_at,
        "transaction": _unsigned(row) if relay is None else None,
        "relay": None if relay is None else documents.relay_document(relay),
    }


def _unsigned(row: Withdrawal) -> dict[str, Any] | None:
    """None where it is over, or the chain says no for now: the voucher stands all the same."""
    if row.state != Withdrawal.State.OPEN:
        return None
    try:
        return documents.unsigned_document(services.unsigned_withdrawal(row))
    except Problem:
        return None


def _key(row: Withdrawal) -> str:
    return f"withdrawal:{row.pk}"


def _relayed(request: Request, id: str) -> dict[str, Any] | None:
    """What became of a transaction that we send for this very wallet; None for any other text."""
    try:
        own = Transaction.objects.filter(pk=UUID(id), wallet=caller_of(request).address)
    except ValueError:
        return None
    row = own.first()
    if row is None:
        return None
    return {
        "hash": documents.hash_of(row) or None,
        "state": _STATE_OF_RELAY.get(Transaction.State(row.state), "pending"),
        "block": row.mined_block,
        "confirmations": 0,
    }


def _read(kind: type[StrictRequest], request: Request) -> dict[str, Any]:
    form = kind(data=request.data)
    form.is_valid(raise_exception=True)
    given: dict[str, Any] = form.validated_data
    return given


def _wallet(request: Request) -> Wallet:
    return Wallet.objects.get(pk=caller_of(request).address)


def _address(configured: str) -> str | None:
    try:
        return checksum_address(configured)
    except ValueError:
        return None
