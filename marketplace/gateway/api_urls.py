"""Addresses of the gateway under /api/v1/."""

from django.urls import path

from marketplace.gateway import api

urlpatterns = [
    path("models/<str:name>/diagnostics", api.DiagnosticsView.as_view(), name="api-diagnostics"),
    path("receipts/<uuid:call_id>", api.ReceiptView.as_view(), name="api-receipt"),
    path("account/usage", api.UsageView.as_view(), name="api-account-usage"),
]
