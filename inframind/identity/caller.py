"""Who is calling and what their token lets them do."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from inframind.lib.problem import Problem


@dataclass(frozen=True)
class Caller:
    """An authenticated caller. Empty ``models_allowed`` means every model."""

    address: str
    token_id: UUID | None = None
    actions: frozenset[str] = field(default_factory=frozenset)
    models_allowed: frozenset[str] = field(default_factory=frozenset)

    def may(self, action: str, model: str | None = None) -> bool:
        if action not in self.actions:
            return False
        return model is None or not self.models_allowed or model in self.models_allowed

    def require(self, action: str, model: str | None = None) -> None:
        """Raises a 403 ``Problem`` (RFC 6750 ``insufficient_scope``) unless the token allows it."""
        if self.may(action, model):
            return
        target = f" on {model}" if model else ""
        raise Problem(
            "insufficient-scope",
            f"This token does not allow {action}{target}.",
            status=403,
            remedy=f"Use a token whose scope has {action}{target}.",
            headers={
                "WWW-Authenticate": 'Bearer realm="inframind", error="insufficient_scope", '
                f'scope="{action}"'
            },
        )
