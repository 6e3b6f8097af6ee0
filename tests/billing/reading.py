"""Programs and their tokens, for the tests of the money's API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rest_framework.test import APIClient

from inframind.identity.models import Token, Wallet
from inframind.identity.services import mint_token


def program(address: str, *actions: str, **wish: Any) -> APIClient:
    """A program of a wallet: with a login, or where actions are named with a scoped token."""
    _, text = mint_token(
        wallet=Wallet.objects.of(address),
        name="test",
        actions=list(actions) or Token.Action.values,
        model_scope=wish.pop("model_scope", "any"),
        lifetime=timedelta(hours=1),
        kind=Token.Kind.SCOPED if actions else Token.Kind.LOGIN,
        **wish,
    )
    return APIClient(headers={"Authorization": f"Bearer {text}"})


def amount(base_units: int, text: str) -> dict[str, str]:
    """As documents have it."""
    return {"base_units": str(base_units), "text": text}


def pointers(answer: Any) -> list[str]:
    """What a refusal names."""
    return [each["pointer"] for each in answer.json()["violations"]]
