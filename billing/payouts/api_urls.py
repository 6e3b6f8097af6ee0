"""Addresses of the money on its way to and from the chain, below `/api/v1/`."""

from __future__ import annotations

from django.urls import path

from billing.payouts import api, epoch_api, rewards_api

urlpatterns = [
    path("protocol", api.ProtocolView.as_view(), name="api-protocol"),
    path("account/deposits", api.DepositsView.as_view(), name="api-deposits"),
    path("account/deposits/permit", api.PermitView.as_view(), name="api-permit"),
    path("account/withdrawals", api.WithdrawalsView.as_view(), name="api-withdrawals"),
    path("account/transactions", api.TransactionsView.as_view(), name="api-transactions"),
    path("account/transactions/<str:hash>", api.TransactionView.as_view(), name="api-transaction"),
    path("account/faucet", api.FaucetView.as_view(), name="api-faucet"),
    path("rewards", rewards_api.RewardsView.as_view(), name="api-rewards"),
    path("rewards/claims", rewards_api.ClaimsView.as_view(), name="api-claims"),
    path("epochs", epoch_api.EpochsView.as_view(), name="api-epochs"),
    path("epochs/<int:number>", epoch_api.EpochView.as_view(), name="api-epoch"),
]
