"""Addresses of what epochs publish, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from billing.epochs import api

urlpatterns = [
    path("epochs/<int:number>/tree", api.TreeView.as_view(), name="api-epoch-tree"),
    path(
        "epochs/<int:number>/receipts", api.EpochReceiptsView.as_view(), name="api-epoch-receipts"
    ),
]
