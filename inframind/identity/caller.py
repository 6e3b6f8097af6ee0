"""Who is calling, what they are, and what their token lets them do."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from inframind.lib.access import Role, Scope
from inframind.lib.problem import Problem

EVERY_SCOPE = frozenset(scope.value for scope in Scope)


@dataclass(frozen=True)
class Caller:
    """A wallet that was recognised: by a browser's session, a login, or a scoped token.

    ``names``: the only models that the token is for; None: no such limit. ``owned_only``: only
    models that the wallet owns. ``meters``: what a call has to be counted on, ancestors included.
    """

    address: str
    token_id: UUID | None = None
    narrowing_id: UUID | None = None
    actions: frozenset[str] = EVERY_SCOPE
    names: frozenset[str] | None = None
    owned_only: bool = False
    roles: frozenset[Role] = field(default_factory=lambda: frozenset({Role.SIGNED_IN}))
    meters: tuple[UUID, ...] = ()

    def covers(self, name: str) -> bool:
        """Whether the token is for this name, as far as that is known without looking it up."""
        return self.names is None or name in self.names

    def owns(self, owner: str, name: str) -> bool:
        """Whether this is the owner's wallet, by a token that is for this model."""
        return self.address == owner and self.covers(name)

    def may(self, action: str, model: str | None = None) -> bool:
        return action in self.actions and (model is None or self.covers(model))

    def require(self, action: str, model: str | None = None) -> None:
        """Raises a 403 ``Problem`` (RFC 6750 ``insufficient_scope``) unless the token allows it.

        Ask before the name is looked up: the answer is then the same for every name.
        """
        if action not in self.actions:
            raise insufficient_scope(action)
        if not self.may(action, model):
            raise insufficient_scope(action, model)


def insufficient_scope(action: str, model: str | None = None) -> Problem:
    """The 403 for a token whose scope does not reach (RFC 6750, section 3.1): it lacks the action,
    or it has the action and, where a ``model`` is given, not for that name."""
    on = f" on {model[:80]}" if model else ""
    if action == Scope.ACCOUNT:
        detail = "A scoped token does not act for the account itself."
        remedy = "Sign in, or use `infra login`."
    else:
        detail = f"This token does not allow {action}{on}."
        remedy = f"Use a token whose scope has {action}{on}."
    return Problem(
        "insufficient-scope",
        detail,
        status=403,
        remedy=remedy,
        extra={"scope": action, **({"model": model[:80]} if model else {})},
        headers={
            "WWW-Authenticate": 'Bearer realm="inframind", error="insufficient_scope", '
            f'scope="{action}"'
        },
    )
