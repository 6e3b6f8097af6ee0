"""REST of the mesh: who runs models, and how a node joins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inframind.identity.api import caller_of, viewer_of
from inframind.identity.authority import permitted
from inframind.identity.models import Wallet
from marketplace.catalog.access import managed
from marketplace.mesh import queries, services
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.registration import NodeOffer, challenge_text


class ChallengeRequest(serializers.Serializer[Any]):
    endpoint = serializers.CharField(max_length=300)


class NodeRequest(serializers.Serializer[Any]):
    nonce = serializers.CharField(max_length=64)
    signature = serializers.CharField(max_length=140)
    name = serializers.CharField(max_length=63)
    control_header = serializers.CharField(max_length=60)
    control_secret = serializers.CharField(max_length=200, write_only=True)
    metrics_endpoint = serializers.CharField(max_length=300, default="", allow_blank=True)
    grpc_endpoint = serializers.CharField(max_length=300, default="", allow_blank=True)
    capacity = serializers.IntegerField(default=8)
    gpu_count = serializers.IntegerField(default=0)
    privacy_runtimes = serializers.ListField(
        child=serializers.CharField(max_length=20), default=list, max_length=8
    )
    accepts_publisher_code = serializers.BooleanField(default=False)
    isolation = serializers.CharField(max_length=200, default="", allow_blank=True)


@permitted(GET="node.read", POST="node.register")
class NodesView(APIView):
    """The nodes, and the way in for a new one."""

    @extend_schema(operation_id="nodes_list", responses={200: dict})
    def get(self, request: Request) -> Response:
        nodes = queries.nodes()
        return Response({"nodes": [as_document(node, node.placements.all()) for node in nodes]})

    @extend_schema(operation_id="nodes_register", request=NodeRequest, responses={201: dict})
    def post(self, request: Request) -> Response:
        caller = caller_of(request)
        form = NodeRequest(data=request.data)
        form.is_valid(raise_exception=True)
        given = dict(form.validated_data)
        node = services.register_node(
            operator=Wallet.objects.of(caller.address),
            nonce=given.pop("nonce"),
            signature=given.pop("signature"),
            offer=NodeOffer(**{**given, "privacy_runtimes": tuple(given.pop("privacy_runtimes"))}),
        )
        return Response(as_document(node, ()), status=201)


@permitted(POST="node.register")
class ChallengeView(APIView):
    """What an operator's wallet has to sign before a node joins."""

    @extend_schema(operation_id="nodes_challenge", request=ChallengeRequest, responses={201: dict})
    def post(self, request: Request) -> Response:
        caller = caller_of(request)
        form = ChallengeRequest(data=request.data)
        form.is_valid(raise_exception=True)
        challenge = services.issue_challenge(
            operator=Wallet.objects.of(caller.address), endpoint=form.validated_data["endpoint"]
        )
        return Response(
            {
                "nonce": challenge.nonce,
                "endpoint": challenge.endpoint,
                "text": challenge_text(challenge),
                "expires_at": challenge.expires_at,
            },
            status=201,
        )


@permitted(GET="model.manage")
class NamedNodesView(APIView):
    """The nodes that a model's owner lets its private versions go to."""

    @extend_schema(operation_id="models_nodes_list", responses={200: dict})
    def get(self, request: Request, name: str) -> Response:
        model = managed(name, viewer_of(request))
        return Response({"nodes": queries.named_nodes(model)})


@permitted(PUT="model.manage", DELETE="model.manage")
class NamedNodeView(APIView):
    """One of them: `PUT` names it, `DELETE` takes that back."""

    @extend_schema(operation_id="models_nodes_name", request=None, responses={204: None})
    def put(self, request: Request, name: str, node: str) -> Response:
        model = managed(name, viewer_of(request))
        services.name_node(owner=model.owner_id, model_name=name, node_name=node)
        return Response(status=204)

    @extend_schema(operation_id="models_nodes_unname", responses={204: None})
    def delete(self, request: Request, name: str, node: str) -> Response:
        model = managed(name, viewer_of(request))
        services.unname_node(owner=model.owner_id, model_name=name, node_name=node)
        return Response(status=204)


def as_document(node: Node, placements: Iterable[Placement]) -> dict[str, Any]:
    """A node as anyone may see it, with the placements given: no secret, nothing private."""
    return {
        "name": node.name,
        "operator": node.operator_id,
        "state": node.state,
        "state_reason": node.state_reason,
        "backends": node.backends,
        "gpu_count": node.gpu_count,
        "capacity": node.capacity,
        "privacy_runtimes": node.privacy_runtimes,
        "accepts_publisher_code": node.accepts_publisher_code,
        "isolation": node.isolation,
        "trusted": node.trusted,
        "reputation": _reputation(node),
        "rated_calls": node.rated_calls,
        "paid_calls": node.paid_calls,
        "probed_at": node.probed_at,
        "created_at": node.created_at,
        "models": [
            {"version": str(placement.version), "state": placement.state}
            for placement in placements
        ],
    }


def _reputation(node: Node) -> dict[str, Any] | None:
    """None while the node was given too few calls to be rated; shares in basis points."""
    if node.reputation_bps is None:
        return None
    return {
        "score_bps": node.reputation_bps,
        "success_bps": node.success_bps,
        "sla_bps": node.sla_bps,
        "latency_bps": node.latency_bps,
        "rated_at": node.rated_at,
    }
