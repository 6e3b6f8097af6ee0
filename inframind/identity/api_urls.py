"""Addresses of identity under /api/v1/."""

from django.urls import path

from inframind.identity import account_api, token_api

urlpatterns = [
    path("auth/nonce", account_api.NonceView.as_view(), name="api-auth-nonce"),
    path("auth/login", account_api.LoginView.as_view(), name="api-auth-login"),
    path("auth/logout", account_api.LogoutView.as_view(), name="api-auth-logout"),
    path("account", account_api.AccountView.as_view(), name="api-account"),
    path("account/sessions", account_api.SessionsView.as_view(), name="api-account-sessions"),
    path(
        "account/sessions/<str:session_id>",
        account_api.SessionView.as_view(),
        name="api-account-session",
    ),
    path("tokens", token_api.TokensView.as_view(), name="api-tokens"),
    path("tokens/revoke", token_api.RevokeView.as_view(), name="api-token-revoke"),
    path("tokens/introspect", token_api.IntrospectView.as_view(), name="api-token-introspect"),
    path("tokens/<uuid:token_id>", token_api.TokenView.as_view(), name="api-token"),
    path("tokens/<uuid:token_id>/rotate", token_api.RotateView.as_view(), name="api-token-rotate"),
]
