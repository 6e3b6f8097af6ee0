"""Addresses of the prepaid balance, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from billing.ledger import api

urlpatterns = [
    path("account/balance", api.BalanceView.as_view(), name="api-balance"),
    path("account/limit", api.LimitView.as_view(), name="api-limit"),
]
