"""Writes: minting, rotating and revoking tokens; the name that a wallet shows."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Least, Now
from django.utils import timezone

from inframind.identity import changes, queries, tokens
from inframind.identity.caller import Caller
from inframind.identity.models import Meter, Narrowing, Token, Wallet
from inframind.lib import scopes
from inframind.lib.amounts import amount_document
from inframind.lib.problem import Problem, Violation, not_found

MAX_LIVE_TOKENS: Final = 1_000  # of a wallet, beside its logins
MAX_OVERLAP: Final = timedelta(days=30)
NAME_MAX_CHARACTERS: Final = 60  # of a token, and of a wallet's display name
# A call under way when its token ends still has to be settled.
_KEPT_AFTER_END: Final = timedelta(days=1)


@transaction.atomic
def mint_token(
    *,
    wallet: Wallet,
    name: str,
    actions: Iterable[str],
    model_scope: str | None = None,
    models_allowed: Iterable[str] = (),
    lifetime: timedelta,
    spend_limit_base_units: int | None = None,
    calls_limit: int | None = None,
    ip_ranges: Iterable[str] = (),
    kind: str = Token.Kind.SCOPED,
    user_agent: str = "",
) -> tuple[Token, str]:
    """A new token and its text, which exists only in this answer.

    Without a ``model_scope``, naming models means ``named`` and naming none ``any``. A name need
    not be a model's: what the wallet may not see is not told here.
    Raises a 422 ``Problem`` ``token-invalid`` with every violation, and a 409 ``too-many-tokens``.
    """
    wanted, names, ranges = set(actions), set(models_allowed), tuple(ip_ranges)
    model_scope = model_scope or (Token.ModelScope.NAMED if names else Token.ModelScope.ANY)
    found = _Violations()
    title = found.of("/name", _check_title, name)
    if kind not in Token.Kind.values:
        found.add("/kind", f"{kind[:40]!r} is no kind of token.")
    elif kind == Token.Kind.SCOPED:
        found.of("/actions", scopes.check_actions, wanted)
    elif not wanted or not wanted <= set(Token.Action.values):
        found.add("/actions", "A login has actions that there are.")
    if model_scope not in Token.ModelScope.values:
        choices = ", ".join(Token.ModelScope.values)
        found.add("/model_scope", f"{model_scope[:40]!r} is not one of {choices}.")
    elif model_scope == Token.ModelScope.NAMED:
        found.of("/models", scopes.check_models, names)
    elif names:
        found.add("/models", "Models are named only where model_scope is named.")
    found.of("/expires_in", _check_lifetime, lifetime)
    canonical_ranges = found.of("/ip_ranges", scopes.check_ip_ranges, ranges) if ranges else ()
    if calls_limit is not None and not 1 <= calls_limit <= scopes.MAX_COUNT:
        found.add("/calls_limit", f"A call limit is a whole number from 1 to {scopes.MAX_COUNT}.")
    if spend_limit_base_units is not None and not (
        0 <= spend_limit_base_units <= scopes.MAX_BASE_UNITS
    ):
        found.add("/spend_limit", "A spend limit is an amount from 0 IFM on.")
    found.raise_any()
    live = Token.objects.filter(wallet=wallet, revoked_at__isnull=True, expires_at__gt=Now())
    if kind == Token.Kind.SCOPED and live.filter(kind=kind).count() >= MAX_LIVE_TOKENS:
        raise Problem(
            "too-many-tokens",
            f"This wallet has {MAX_LIVE_TOKENS} tokens that work, and more are not made.",
            status=409,
            remedy="Revoke those that you no longer need, or narrow one of them offline.",
        )
    meter = Meter.objects.create(
        calls_limit=calls_limit, spend_limit_base_units=spend_limit_base_units
    )
    return _issue(
        Token(
            wallet=wallet,
            kind=kind,
            name=title,
            actions=sorted(wanted),
            model_scope=model_scope,
            models_allowed=sorted(names),
            ip_ranges=list(canonical_ranges or ()),
            meter=meter,
            user_agent=user_agent.replace("\x00", "")[:200],
            expires_at=Now() + lifetime,
        )
    )


@transaction.atomic
def rotate_token(*, token_id: UUID, wallet: Wallet, overlap: timedelta) -> tuple[Token, str]:
    """A successor with the same scope, limits and what is used of them, and its text.

    It lives as long as the old one was meant to, which ends after ``overlap``, or earlier by
    itself. Raises ``Problem``: 404 when it is not the wallet's, 409 when it has ended, was rotated
    before, or is a login; 422 for an overlap out of bounds.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        detail = f"An overlap is from nothing to {MAX_OVERLAP.days} days."
        raise _invalid((Violation("/overlap", detail, "Give one such as 1h."),))
    # Locked, so that two rotations at once do not make two successors.
    old = Token.objects.select_for_update().filter(pk=token_id, wallet=wallet).first()
    if old is None:
        raise not_found("token with this id")
    if old.kind != Token.Kind.SCOPED:
        raise _not_rotatable("A login is not rotated: it is replaced by signing in again.")
    if queries.token_of(wallet.pk, token_id).state != "active":  # type: ignore[attr-defined]
        raise _not_rotatable("The token has ended. Make another one.")
    if Token.objects.filter(rotated_from=old).exists():
        raise _not_rotatable("The token was rotated before. Rotate its successor.")
    longest = timedelta(days=settings.TOKEN_LIFETIME_MAX_DAYS)
    lifetime = min(old.expires_at - old.created_at, longest)
    Token.objects.filter(pk=old.pk).update(expires_at=Least(F("expires_at"), Now() + overlap))
    changes.token_changed(old.pk)
    return _issue(
        Token(
            wallet=wallet,
            kind=old.kind,
            name=old.name,
            actions=old.actions,
            model_scope=old.model_scope,
            models_allowed=old.models_allowed,
            ip_ranges=old.ip_ranges,
            meter=old.meter,
            rotated_from=old,
            expires_at=Now() + lifetime,
        )
    )


@transaction.atomic
def revoke_token(*, token_id: UUID, wallet: Wallet) -> None:
    """End a token, and all that were narrowed from it, at once. Twice is once.

    Raises a 404 ``Problem`` when it is not the wallet's.
    """
    if not Token.objects.filter(pk=token_id, wallet=wallet).exists():
        raise not_found("token with this id")
    Token.objects.filter(pk=token_id, revoked_at__isnull=True).update(revoked_at=Now())
    changes.token_changed(token_id)


@transaction.atomic
def revoke_presented(*, text: str) -> None:
    """End the very token that is presented, as RFC 7009 says: a narrowed one with all narrowed
    from it, never the one it came from. What is no live token of ours is ended already.
    """
    try:
        presented = queries.recognise(text).presented
    except Problem:
        return
    changes.token_changed(presented.token_id)
    if not presented.chain:
        Token.objects.filter(pk=presented.token_id, revoked_at__isnull=True).update(
            revoked_at=Now()
        )
        return
    with connection.cursor() as cursor:
        cursor.execute(*tokens.rows_of_narrowings(presented))
    Narrowing.objects.filter(pk=presented.chain[-1], revoked_at__isnull=True).update(
        revoked_at=Now()
    )


@transaction.atomic
def sweep_narrowings() -> int:
    """Forgets the narrowed tokens that ended a day ago or more, with their meters; how many.

    What ended stays ended without a row: by its own expiry, or with the token it came from.
    """
    long_ago = Now() - _KEPT_AFTER_END
    ended = Narrowing.objects.filter(
        Q(token__expires_at__lt=long_ago)
        | Q(token__revoked_at__lt=long_ago)
        | Q(caveat__expires__lt=int((timezone.now() - _KEPT_AFTER_END).timestamp()))
    )
    _, deleted = ended.delete()
    Meter.objects.filter(tokens__isnull=True, narrowings__isnull=True).delete()
    return deleted.get(Narrowing._meta.label, 0)


@transaction.atomic
def rename_wallet(*, wallet: Wallet, display_name: str) -> None:
    """Change the name that is shown beside the address; empty takes it away.

    Raises a 422 ``Problem`` for more than 60 characters, and for ones that cannot be seen.
    """
    name = display_name.strip(" ")
    if len(name) > NAME_MAX_CHARACTERS or not name.isprintable():
        detail = (
            f"A name has at most {NAME_MAX_CHARACTERS} characters that can be seen, on one line."
        )
        raise Problem(
            "profile-invalid",
            detail,
            status=422,
            violations=(Violation("/display_name", detail),),
            remedy="Choose another name.",
        )
    Wallet.objects.filter(pk=wallet.pk).update(display_name=name)
    wallet.display_name = name


def introspect(*, text: str, caller: Caller | None) -> dict[str, Any]:
    """What RFC 7662 answers about a token: everything to its wallet, acting for the account, and
    to whoever presents the same token; ``{"active": False}`` to all others and for all others.
    """
    if caller is None:
        return {"active": False}
    try:
        found = queries.recognise(text)
    except Problem:
        return {"active": False}
    itself = (caller.token_id, caller.narrowing_id) == (
        found.caller.token_id,
        found.caller.narrowing_id,
    )
    if caller.address != found.caller.address or not (caller.may("account") or itself):
        return {"active": False}
    token = queries.token_of(caller.address, found.presented.token_id)
    scope = found.scope
    spend = scope.spend_limit_base_units
    return {
        "active": True,
        "token_type": "Bearer",
        "scope": " ".join(sorted(scope.actions)),
        "sub": token.wallet_id,
        "username": token.wallet_id,
        "jti": str(found.caller.narrowing_id or token.pk),
        "iat": int(token.created_at.timestamp()),
        "exp": None if scope.expires_at is None else int(scope.expires_at),
        "token_id": str(token.pk),
        "narrowed": len(found.presented.chain),
        "model_scope": "named" if scope.models is not None else token.model_scope,
        "models": sorted(scope.models or ()),
        "owned_only": scope.owned_only,
        "ip_ranges": None if scope.ip_ranges is None else list(scope.ip_ranges),
        "calls_limit": scope.calls_limit,
        "spend_limit": None if spend is None else amount_document(spend),
    }


def _issue(token: Token) -> tuple[Token, str]:
    token.save(force_insert=True)
    token.refresh_from_db()
    return token, tokens.issue(settings.SECRET_KEY, token.pk)


class _Violations:
    """Gathers what is wrong with a wish, so that all of it is told at once."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def add(self, pointer: str, detail: str) -> None:
        self._found.append(Violation(pointer, detail))

    def of(self, pointer: str, check: Callable[[Any], Any], value: Any) -> Any:
        """What the check returns; None where it raised ``ValueError``."""
        try:
            return check(value)
        except ValueError as error:
            text = str(error)
            self.add(pointer, f"{text[:1].upper()}{text[1:]}.".replace("..", "."))
            return None

    def raise_any(self) -> None:
        if self._found:
            raise _invalid(tuple(self._found))


def _check_title(name: str) -> str:
    title = " ".join(name.split())
    # Letters that are not seen could make two tokens look like one.
    hidden = any(unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn") for each in title)
    if hidden or not 1 <= len(title) <= NAME_MAX_CHARACTERS:
        raise ValueError(f"a token's name has 1 to {NAME_MAX_CHARACTERS} visible characters")
    return title


def _check_lifetime(lifetime: timedelta) -> None:
    days = settings.TOKEN_LIFETIME_MAX_DAYS
    if not timedelta(0) < lifetime <= timedelta(days=days):
        raise ValueError(f"a token lives for more than nothing and at most {days} days")


def _invalid(violations: tuple[Violation, ...]) -> Problem:
    return Problem(
        "token-invalid",
        " ".join(each.detail for each in violations),
        status=422,
        violations=violations,
        remedy="Correct what the violations point to.",
    )


def _not_rotatable(detail: str) -> Problem:
    return Problem("token-not-rotatable", detail, status=409)
