"""Who may do what to which thing: the one table that pages, API, gateway, admin and CLI share.

A row says which roles hold a permission on a kind of object, which scope a token needs for it, and
what one who may not is told. `docs/authorisation.md` is written from these rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a caller is to the registry (the first, second and last two) or to one object."""

    STRANGER = "stranger"  # everybody, also without any credential
    SIGNED_IN = "signed-in"  # a wallet, by its session or a token
    ALLOWED = "allowed"  # on the model's allow list
    OWNER = "owner"  # of the model, node, token, session or receipt
    CURATOR = "curator"  # holds a curator's seat now
    STAFF = "staff"


class Scope(StrEnum):
    """What a token is good for; sessions and `infra login` have every one of them."""

    INVOKE = "invoke"
    PUBLISH = "publish"
    MANAGE = "manage"
    READ_USAGE = "read:usage"
    ACCOUNT = "account"  # never given to a scoped token: acting as the wallet itself


class Kind(StrEnum):
    """What a permission is about."""

    SITE = "site"  # no object of its own
    OPEN_MODEL = "open model"  # public, called without a token where it is free
    GATED_MODEL = "gated model"  # public, called with a token
    LISTED_MODEL = "listed model"  # public, called by the allowed only
    PRIVATE_MODEL = "private model"  # seen and called by the allowed only
    ACCOUNT = "own account"
    NODE = "node"
    RECEIPT = "receipt of a public model"
    PRIVATE_RECEIPT = "receipt of a private model"
    ADMIN = "admin portal"


class Refusal(StrEnum):
    """What is answered to a caller whose roles do not reach."""

    SIGN_IN = "401"  # a token or a session would say who asks
    FORBIDDEN = "403"
    HIDDEN = "404"  # as for what does not exist
    NOBODY = "-"  # every role is let in


@dataclass(frozen=True)
class Rule:
    """One row. ``scope`` is what a token needs beside its wallet's roles; None: any token."""

    permission: str
    kind: Kind
    roles: frozenset[Role]
    scope: Scope | None
    refusal: Refusal
    words: str


_EVERYBODY: Final = frozenset(Role)
_SIGNED_IN: Final = frozenset(Role) - {Role.STRANGER}
_OWNER: Final = frozenset({Role.OWNER})
_ALLOWED: Final = frozenset({Role.ALLOWED, Role.OWNER})
_PUBLIC: Final = (Kind.OPEN_MODEL, Kind.GATED_MODEL, Kind.LISTED_MODEL)
_MODELS: Final = (*_PUBLIC, Kind.PRIVATE_MODEL)


def _rows(
    permission: str,
    kinds: Iterable[Kind],
    roles: Iterable[Role],
    scope: Scope | None,
    refusal: Refusal,
    words: str,
) -> list[Rule]:
    return [Rule(permission, kind, frozenset(roles), scope, refusal, words) for kind in kinds]


RULES: Final[tuple[Rule, ...]] = (
    *_rows("site.read", [Kind.SITE], _EVERYBODY, None, Refusal.NOBODY,
           "Read public pages, lists, counts and the API's description"),
    *_rows("model.see", _PUBLIC, _EVERYBODY, None, Refusal.NOBODY,
           "Read a model: versions, schemas, figures, evidence"),
    *_rows("model.see", [Kind.PRIVATE_MODEL], _ALLOWED, None, Refusal.HIDDEN,
           "Read a model: versions, schemas, figures, evidence"),
    *_rows("model.call", [Kind.OPEN_MODEL], _EVERYBODY, Scope.INVOKE, Refusal.NOBODY,
           "Call a model"),
    *_rows("model.call", [Kind.GATED_MODEL], _SIGNED_IN, Scope.INVOKE, Refusal.SIGN_IN,
           "Call a model"),
    *_rows("model.call", [Kind.LISTED_MODEL], _ALLOWED, Scope.INVOKE, Refusal.FORBIDDEN,
           "Call a model"),
    *_rows("model.call", [Kind.PRIVATE_MODEL], _ALLOWED, Scope.INVOKE, Refusal.HIDDEN,
           "Call a model"),
    *_rows("route.explain", _PUBLIC, {Role.OWNER, Role.STAFF}, None, Refusal.FORBIDDEN,
           "See which nodes a call would go to, and why"),
    *_rows("route.explain", [Kind.PRIVATE_MODEL], _OWNER, None, Refusal.HIDDEN,
           "See which nodes a call would go to, and why"),
    *_rows("package.read", _PUBLIC, _EVERYBODY, None, Refusal.NOBODY,
           "Download a package"),
    *_rows("package.read", [Kind.PRIVATE_MODEL], _OWNER, Scope.PUBLISH,
           Refusal.HIDDEN, "Download a package"),
    *_rows("model.register", [Kind.SITE], _SIGNED_IN, Scope.PUBLISH, Refusal.SIGN_IN,
           "Register a model, or a version of one's own"),
    *_rows("version.verify", _PUBLIC, _OWNER, Scope.PUBLISH, Refusal.FORBIDDEN,
           "Queue the checks of a version again"),
    *_rows("version.verify", [Kind.PRIVATE_MODEL], _OWNER, Scope.PUBLISH, Refusal.HIDDEN,
           "Queue the checks of a version again"),
    *_rows("model.manage", _PUBLIC, _OWNER, Scope.MANAGE, Refusal.FORBIDDEN,
           "Deprecate, change terms and access, name nodes, answer access requests"),
    *_rows("model.manage", [Kind.PRIVATE_MODEL], _OWNER, Scope.MANAGE, Refusal.HIDDEN,
           "Deprecate, change terms and access, name nodes, answer access requests"),
    *_rows("access.ask", [Kind.SITE], _SIGNED_IN, Scope.ACCOUNT, Refusal.SIGN_IN,
           "Ask the owner of a model to be let in"),
    *_rows("code.review", _PUBLIC, {Role.CURATOR, Role.STAFF}, Scope.ACCOUNT, Refusal.FORBIDDEN,
           "Approve or refuse publisher code, never one's own"),
    *_rows("code.review", [Kind.PRIVATE_MODEL], {Role.STAFF}, Scope.ACCOUNT, Refusal.HIDDEN,
           "Approve or refuse publisher code, never one's own"),
    *_rows("node.read", [Kind.NODE], _EVERYBODY, None, Refusal.NOBODY,
           "Read a node: state, what it offers, the public models on it"),
    *_rows("node.register", [Kind.SITE], _SIGNED_IN, Scope.MANAGE, Refusal.SIGN_IN,
           "Register a node"),
    *_rows("receipt.read", [Kind.RECEIPT], _EVERYBODY, None, Refusal.NOBODY,
           "Read a call's receipt; caller, owner and the node's operator see all of it"),
    *_rows("receipt.read", [Kind.PRIVATE_RECEIPT], _OWNER, None, Refusal.HIDDEN,
           "Read a call's receipt; caller, owner and the node's operator see all of it"),
    *_rows("usage.read", [Kind.ACCOUNT], _SIGNED_IN, Scope.READ_USAGE, Refusal.SIGN_IN,
           "Read what the account has called and spent, its balance and its earnings"),
    *_rows("funds.move", [Kind.ACCOUNT], _SIGNED_IN, Scope.ACCOUNT, Refusal.SIGN_IN,
           "Deposit, withdraw, claim; set the account's own limit"),
    *_rows("account.see", [Kind.ACCOUNT], _SIGNED_IN, None, Refusal.SIGN_IN,
           "Read who one is and what one's own token may do"),
    *_rows("account.manage", [Kind.ACCOUNT], _SIGNED_IN, Scope.ACCOUNT, Refusal.SIGN_IN,
           "Profile, sessions, tokens, groups of the own account"),
    *_rows("account.prove", [Kind.SITE], _EVERYBODY, None, Refusal.NOBODY,
           "Sign in; end or narrow a token that one holds"),
    *_rows("admin.enter", [Kind.ADMIN], {Role.CURATOR, Role.STAFF}, Scope.ACCOUNT,
           Refusal.HIDDEN, "Enter the admin portal, with a second factor"),
    *_rows("admin.administer", [Kind.ADMIN], {Role.STAFF}, Scope.ACCOUNT, Refusal.FORBIDDEN,
           "Wallets, seats, nodes, listings; reading every table"),
)  # fmt: skip

_BY_KEY: Final = {(rule.permission, rule.kind): rule for rule in RULES}
PERMISSIONS: Final = tuple(dict.fromkeys(rule.permission for rule in RULES))
_BY_PERMISSION: Final = {
    permission: tuple(rule for rule in RULES if rule.permission == permission)
    for permission in PERMISSIONS
}


def rule(permission: str, kind: Kind) -> Rule:
    """The row. Raises ``KeyError`` for a pair that the table does not have."""
    return _BY_KEY[permission, kind]


def rules_of(permission: str) -> tuple[Rule, ...]:
    """Every row of a permission. Raises ``KeyError`` for an unknown one."""
    return _BY_PERMISSION[permission]


def scope_of(permission: str) -> Scope | None:
    """The scope that a token needs for a permission, on whatever object."""
    scopes = {each.scope for each in rules_of(permission)} - {None}
    return scopes.pop() if scopes else None


def holds(permission: str, kind: Kind, roles: Iterable[Role]) -> bool:
    """Whether one of the roles has the permission; everybody is a stranger besides."""
    holders = rule(permission, kind).roles
    return Role.STRANGER in holders or not holders.isdisjoint(roles)


def model_kind(*, public: bool, auth_required: bool, restricted: bool) -> Kind:
    """The kind of a model under an access policy."""
    if not public:
        return Kind.PRIVATE_MODEL
    if restricted:
        return Kind.LISTED_MODEL
    return Kind.GATED_MODEL if auth_required else Kind.OPEN_MODEL


def as_markdown() -> str:
    """The table as `docs/authorisation.md` holds it, one line a row."""
    lines = [
        "| permission | what it lets one do | on | who | a token needs | others are told |",
        "|---|---|---|---|---|---|",
    ]
    for each in RULES:
        everybody = Role.STRANGER in each.roles
        who = "everybody" if everybody else ", ".join(r for r in Role if r in each.roles)
        told = "" if each.refusal is Refusal.NOBODY else each.refusal
        scope = f"`{each.scope}`" if each.scope else ""
        lines.append(
            f"| `{each.permission}` | {each.words} | {each.kind} | {who} | {scope} | {told} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(as_markdown())  # noqa: T201 - it is the program's output
