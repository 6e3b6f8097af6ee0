"""Addresses of the money's pages."""

from __future__ import annotations

from django.urls import path

from billing.payouts import account_pages, earnings_page, epoch_pages

urlpatterns = [
    path("account/balance", account_pages.balance, name="account-balance"),
    path("account/balance/permit", account_pages.permit, name="account-permit"),
    path("account/earnings", earnings_page.earnings, name="account-earnings"),
    path("epochs", epoch_pages.epochs, name="epochs"),
    path("epochs/<int:number>", epoch_pages.epoch, name="epoch"),
]
