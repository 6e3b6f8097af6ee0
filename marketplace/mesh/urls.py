"""Addresses of the mesh under /api/v1/."""

from django.urls import path

from marketplace.mesh import api

urlpatterns = [
    path("nodes", api.NodesView.as_view(), name="api-nodes"),
    path("models/<str:name>/nodes", api.NamedNodesView.as_view(), name="api-model-nodes"),
    path("models/<str:name>/nodes/<str:node>", api.NamedNodeView.as_view(), name="api-model-node"),
    path("nodes/challenge", api.ChallengeView.as_view(), name="api-nodes-challenge"),
]
