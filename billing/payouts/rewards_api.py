"""REST of earnings: by stream, with the proof that the contract's root says so, and their claim."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.epochs.queries import streams_named
from billing.payouts import documents, services
from billing.payouts.earnings import Owed, earnings_of
from inframind.identity.api import caller_of
from inframind.identity.authority import permitted
from inframind.identity.caller import Caller
from inframind.identity.models import Wallet
from inframind.lib.amounts import amount_document


@permitted(GET="usage.read")
class RewardsView(APIView):
    """What the account has earned."""

    @extend_schema(
        operation_id="rewards_list",
        parameters=[
            OpenApiParameter("model", str, description="Of this model alone."),
            OpenApiParameter("stream", str, description="Of this stream alone: its id or subject."),
        ],
        responses=documents.RewardsDocument,
    )
    def get(self, request: Request) -> Response:
        """By stream: claimed, claimable, pending, the proof, and the lines of every epoch."""
        caller = caller_of(request)
        streams: list[bytes] | None = None
        for name in ("model", "stream"):
            text = request.query_params.get(name)
            if text is not None:
                named = streams_named(text.replace("\x00", ""))
                streams = named if streams is None else [each for each in streams if each in named]
        found = earnings_of(caller.address, streams=streams)
        told = [each for each in found.streams if _covers(caller, each)]
        root = None if found.epoch is None else found.epoch.root
        return Response(
            {
                "wallet": caller.address,
                "epoch": None if found.epoch is None else found.epoch.number,
                "root": None if root is None else "0x" + bytes(root).hex(),
                "results": [reward_document(each) for each in told],
                "claimable": amount_document(sum(each.claimable for each in told)),
            }
        )


@permitted(POST="funds.move")
class ClaimsView(APIView):
    """From the claimable root into the wallet."""

    @extend_schema(
        operation_id="rewards_claim",
        request=documents.ClaimRequest,
        responses={202: documents.ClaimDocument},
    )
    def post(self, request: Request) -> Response:
        """The transactions that claim, to sign and send; with `relay` we send one."""
        form = documents.ClaimRequest(data=request.data)
        form.is_valid(raise_exception=True)
        given = form.validated_data
        wallet = Wallet.objects.get(pk=caller_of(request).address)
        streams = given.get("streams")
        if given["relay"]:
            row = services.relay_claim(wallet, streams)
            return Response(
                {"transactions": [], "relay": documents.relay_document(row)}, status=202
            )
        unsigned = services.unsigned_claim(wallet, streams)
        return Response(
            {
                "transactions": [documents.unsigned_document(each) for each in unsigned],
                "relay": None,
            },
            status=202,
        )


def reward_document(owed: Owed) -> dict[str, Any]:
    """A stream as ``RewardDocument`` has it."""
    return {
        "stream": owed.reward.stream_hex,
        "subject": owed.reward.subject,
        "cumulative": amount_document(owed.reward.cumulative_base_units),
        "claimed": amount_document(owed.claimed),
        "claimable": amount_document(owed.claimable),
        "pending": amount_document(owed.pending),
        "proof": ["0x" + each.hex() for each in owed.reward.proof],
        "epochs": [
            {
                "epoch": each.epoch,
                "share": each.share,
                "calls": each.calls,
                "gross": amount_document(each.gross_base_units),
                "amount": amount_document(each.amount_base_units),
                "bps": each.basis_points,
            }
            for each in owed.reward.earnings
        ],
    }


def _covers(caller: Caller, owed: Owed) -> bool:
    """A token for named models is told of what those earn, and of nothing else."""
    if caller.names is None:
        return True
    kind, _, name = owed.reward.subject.partition(":")
    return kind == "model" and name in caller.names
