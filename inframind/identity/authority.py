"""The table of `inframind.lib.access`, asked on behalf of a caller, answered with a ``Problem``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeVar

from inframind.identity.caller import Caller
from inframind.identity.queries import token_required
from inframind.lib.access import Kind, Refusal, Role, holds, rule, rules_of
from inframind.lib.problem import Problem, not_found

View = TypeVar("View", bound=Callable[..., object])


def admit(caller: Caller | None, permission: str, *, name: str | None = None) -> None:
    """What can be said before the object is looked up: 401 where only the signed in can have the
    permission, 403 where the token's scope does not reach. Raises ``Problem``."""
    needs_token, scopes = _before_look_up(permission)
    if caller is None:
        if needs_token:
            raise token_required("This needs a token.")
        return
    for scope in scopes:
        caller.require(scope, name)


@cache
def _before_look_up(permission: str) -> tuple[bool, tuple[str, ...]]:
    """Whether strangers are told 401 whatever the object, and the scopes that every object needs.

    Where strangers are told 404, the look-up tells them; nobody learns what there is. Where some
    objects need no scope, only the object can tell.
    """
    rules = rules_of(permission)
    scopes = {each.scope for each in rules}
    return (
        all(each.refusal is Refusal.SIGN_IN for each in rules),
        () if None in scopes else tuple(str(scope) for scope in scopes),
    )


def require(
    caller: Caller | None,
    permission: str,
    kind: Kind,
    *,
    roles: Iterable[Role] = (),
    what: str = "such resource",
    seen: bool = False,
    unless_signed_in: Problem | None = None,
    otherwise: Problem | None = None,
) -> None:
    """Raises the row's refusal unless the caller's own roles, or ``roles`` on this object, hold it.

    ``what`` names a hidden object as for one that does not exist; with ``seen`` the caller knows of
    it already, as one on a private model's list does, and is told 403. ``unless_signed_in`` and
    ``otherwise`` say a 401 and a 403 in better words.
    """
    row = rule(permission, kind)
    own = caller.roles if caller is not None else frozenset()
    if holds(permission, kind, {*own, *roles}):
        if caller is not None and row.scope is not None:
            caller.require(row.scope)
        return
    if row.refusal is Refusal.HIDDEN and not seen:
        raise not_found(what)
    if caller is None:
        raise unless_signed_in or token_required("This needs a token.")
    raise otherwise or Problem(
        "forbidden",
        f"{row.words} is not yours to do here.",
        status=403,
        remedy="Use the wallet that may.",
    )


def permitted(**by_method: str) -> Callable[[View], View]:
    """Declare which permission each HTTP method of a page or API view asks for, for the table's
    test and documentation: ``@permitted(GET="model.see", POST="model.call")``."""

    def mark(view: View) -> View:
        for permission in by_method.values():
            rules_of(permission)
        view.permissions = by_method  # type: ignore[attr-defined]
        return view

    return mark
