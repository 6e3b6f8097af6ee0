"""Addresses of identity's pages."""

from django.urls import path

from inframind.identity import account_views, second_factor_views, views

urlpatterns = [
    path("signin", views.sign_in, name="sign-in"),
    path("signout", views.sign_out, name="sign-out"),
    path("account", account_views.overview, name="account"),
    path("account/tokens", account_views.tokens, name="account-tokens"),
    path("account/tokens/new", account_views.token_new, name="account-token-new"),
    path(
        "account/tokens/<uuid:token_id>/rotate",
        account_views.token_rotate,
        name="account-token-rotate",
    ),
    path(
        "account/tokens/<uuid:token_id>/revoke",
        account_views.token_revoke,
        name="account-token-revoke",
    ),
    path("account/sessions", account_views.sessions, name="account-sessions"),
    path(
        "account/sessions/end-others",
        account_views.sessions_end_others,
        name="account-sessions-end-others",
    ),
    path(
        "account/sessions/<str:place_id>/end",
        account_views.session_end,
        name="account-session-end",
    ),
    path("account/second-factor", second_factor_views.overview, name="account-second-factor"),
    path(
        "account/second-factor/recovery-codes",
        second_factor_views.recovery,
        name="account-recovery-codes",
    ),
    path(
        "account/second-factor/remove",
        second_factor_views.remove,
        name="account-second-factor-remove",
    ),
    path("account/verify", second_factor_views.verify, name="account-verify"),
]
