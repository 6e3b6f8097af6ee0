"""Writes: minting and revoking tokens."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from inframind.identity import tokens
from inframind.identity.models import Token, Wallet
from inframind.lib.problem import Problem, not_found

MAX_LIFETIME = timedelta(days=366)


@transaction.atomic
def mint_token(
    *,
    wallet: Wallet,
    name: str,
    actions: Iterable[str],
    models_allowed: Iterable[str] = (),
    lifetime: timedelta,
) -> tuple[Token, str]:
    """A new token and its text, which exists only in this answer.

    Raises ``Problem`` ``token-invalid`` for an unknown action or a lifetime out of bounds.
    """
    wanted = sorted(set(actions))
    unknown = [action for action in wanted if action not in Token.Action.values]
    if unknown or not wanted:
        raise Problem(
            "token-invalid",
            f"A token cannot be given {', '.join(unknown) or 'no action at all'}.",
            status=422,
            remedy=f"Choose from: {', '.join(Token.Action.values)}.",
        )
    if not timedelta(0) < lifetime <= MAX_LIFETIME:
        raise Problem(
            "token-invalid",
            "A token lives for more than nothing and at most 366 days.",
            status=422,
            remedy="Give a lifetime such as 24h or 30d.",
        )
    token = Token.objects.create(
        wallet=wallet,
        name=name,
        actions=wanted,
        models_allowed=sorted(set(models_allowed)),
        expires_at=Now() + lifetime,
    )
    token.refresh_from_db()
    return token, tokens.issue(settings.SECRET_KEY, token.pk)


@transaction.atomic
def revoke_token(*, token_id: UUID, wallet: Wallet) -> None:
    """End a token at once. Twice is once. Raises a 404 ``Problem`` when it is not the wallet's."""
    if not Token.objects.filter(pk=token_id, wallet=wallet).exists():
        raise not_found("token with this id")
    Token.objects.filter(pk=token_id, revoked_at__isnull=True).update(revoked_at=Now())
