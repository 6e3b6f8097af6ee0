"""What a call needs to know of a version, found on every call: compiled once, never cached.

Whether somebody may call what is asked of the database each time. Only the promises of a version's
manifest, which never change, are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Case, QuerySet, When
from psycopg import AsyncConnection

from inframind.lib import semver
from inframind.lib.problem import Problem, not_found
from marketplace.catalog.models import Version
from marketplace.catalog.ranking import best_first, unexpired
from marketplace.catalog.tensorspec import Tensors
from marketplace.catalog.visibility import may_see

_CONTRACTS_KEPT: Final = 1024
# Stand in the compiled statements for what differs from call to call.
_NAME, _NUMBER, _VIEWER = "\x01name", "\x01number", "\x01viewer"
_NAMES: Final = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)
_CONTRACT: Final = "SELECT manifest FROM catalog_version WHERE id = %s"


@dataclass(frozen=True)
class Servable:
    """All that a call needs to know of a version."""

    version_id: UUID
    name: str
    number: str
    cid: str
    owner: str
    auth_required: bool
    public: bool
    fee_base_units: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None
    runtime: str
    max_batch_size: int
    deprecated_at: datetime | None
    sunset_at: datetime | None
    successor_number: str | None
    state: str


@dataclass(frozen=True)
class Contract:
    """The part of a manifest that calls are held against; shared, so never changed."""

    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None


class _Found(NamedTuple):
    version_id: UUID
    number: str
    cid: str
    runtime: str
    state: str
    state_reason: str
    fee_base_units: Any
    expires_at: datetime | None
    deprecated_at: datetime | None
    sunset_at: datetime | None
    name: str
    owner: str
    auth_required: bool
    public: bool
    successor_number: str | None
    successor_name: str | None
    expired: bool


_COLUMNS: Final = (
    "pk", "number", "cid", "runtime", "state", "state_reason", "fee_base_units", "expires_at",
    "deprecated_at", "sunset_at", "model__name", "model__owner_id", "model__auth_required",
    "model__public", "successor__number", "successor__model_id", "expired",
)  # fmt: skip
_contracts: dict[UUID, Contract] = {}


def servable(name: str, number: str | None, *, viewer: str | None) -> Servable:
    """What a call of ``name`` (its current version, unless a number is given) needs.

    Raises ``Problem``: 404 unknown or not the viewer's to see, 410 expired by the database's clock
    or delisted, 409 ``not-active`` to the owner of a pending version.
    """
    with connection.cursor() as cursor:
        cursor.execute(*_statement(name, number, viewer))
        found = _callable(cursor.fetchone(), name, number, viewer)
    contract = _contracts.get(found.version_id)
    if contract is None:
        versions = Version.objects.values_list("manifest", flat=True)
        contract = _keep(found.version_id, versions.get(pk=found.version_id))
    return _servable(found, contract)


async def servable_on(
    database: AsyncConnection, name: str, number: str | None, *, viewer: str | None
) -> Servable:
    """As ``servable``, over an asynchronous connection."""
    cursor = await database.execute(*_statement(name, number, viewer))
    found = _callable(await cursor.fetchone(), name, number, viewer)
    contract = _contracts.get(found.version_id)
    if contract is None:
        row = await (await database.execute(_CONTRACT, (found.version_id,))).fetchone()
        if row is None:
            raise unknown(name, number)
        contract = _keep(found.version_id, json.loads(row[0]))
    return _servable(found, contract)


def _statement(name: str, number: str | None, viewer: str | None) -> tuple[Any, Sequence[Any]]:
    if _NAMES.fullmatch(name) is None:
        raise unknown(name, number)
    given = {_NAME: name, _VIEWER: viewer}
    if number is not None:
        given[_NUMBER] = normal_number(name, number)
    sql, parameters = _compiled(by_number=number is not None, anonymous=viewer is None)
    return sql, [_filled(each, given) for each in parameters]


@cache
def _compiled(*, by_number: bool, anonymous: bool) -> tuple[str, tuple[Any, ...]]:
    """Django takes ten times longer to write this statement than PostgreSQL to answer it."""
    versions: QuerySet[Version] = Version.objects.filter(
        may_see(None if anonymous else _VIEWER, "model__"), model=_NAME
    )
    # Where nothing can be called, the best of the rest says why.
    versions = versions.filter(number=_NUMBER) if by_number else best_first(versions)
    rows = versions.annotate(expired=Case(When(unexpired(), then=False), default=True))
    sql, parameters = rows.values_list(*_COLUMNS)[:1].query.sql_with_params()
    return sql, tuple(parameters)


def _filled(parameter: Any, given: dict[str, Any]) -> Any:
    if isinstance(parameter, list):
        return [_filled(each, given) for each in parameter]
    return given.get(parameter, parameter) if isinstance(parameter, str) else parameter


def _callable(row: Any, name: str, number: str | None, viewer: str | None) -> _Found:
    if row is None:
        raise unknown(name, number)
    found = _Found(*row)
    reference = f"{found.name}@{found.number}"
    if found.state == Version.State.PENDING:
        if found.owner != viewer:
            raise unknown(name, number)
        raise Problem(
            "not-active",
            f"{reference} is not active yet. {found.state_reason}".strip(),
            status=409,
            remedy=f"See its checks: infra model verify {reference}",
            retry_safe=True,
        )
    if found.state == Version.State.DELISTED:
        raise Problem(
            "delisted",
            f"{reference} was delisted. {found.state_reason}".strip(),
            status=410,
            remedy="Call another version, or another model.",
        )
    if found.expired and found.expires_at is not None:
        raise Problem(
            "expired",
            f"{reference} expired at {found.expires_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}.",
            status=410,
            remedy="Call another version; its owner may extend this one.",
        )
    return found


def _servable(found: _Found, contract: Contract) -> Servable:
    successor = found.successor_number
    if successor is not None and found.successor_name != found.name:
        successor = f"{found.successor_name}@{successor}"
    return Servable(
        version_id=found.version_id,
        name=found.name,
        number=found.number,
        cid=found.cid,
        owner=found.owner,
        auth_required=found.auth_required,
        public=found.public,
        fee_base_units=int(found.fee_base_units),
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
        tensors=contract.tensors,
        runtime=found.runtime,
        max_batch_size=contract.tensors.max_batch_size if contract.tensors else 0,
        deprecated_at=_utc(found.deprecated_at),
        sunset_at=_utc(found.sunset_at),
        successor_number=successor,
        state=found.state,
    )


def _keep(version_id: UUID, manifest: dict[str, Any]) -> Contract:
    tensors = manifest.get("tensors")
    contract = Contract(
        input_schema=manifest["input_schema"],
        output_schema=manifest["output_schema"],
        tensors=Tensors.model_validate(tensors) if tensors else None,
    )
    if len(_contracts) >= _CONTRACTS_KEPT:
        _contracts.clear()
    _contracts[version_id] = contract
    return contract


def _utc(moment: datetime | None) -> datetime | None:
    return moment and moment.astimezone(UTC)


def normal_number(name: str, number: str) -> str:
    """The number as versions have it. Raises a 404 ``Problem`` for what is none."""
    try:
        return semver.normalize(number)
    except ValueError:
        raise unknown(name, number) from None


def unknown(name: str, number: str | None = None) -> Problem:
    """The one 404 for what does not exist and for what the viewer may not see."""
    what = f"{name[:80]}@{number[:80]}" if number else name[:80]
    return not_found(
        f"model called {what}", "Look for it at /models; a private one needs its owner's leave."
    )
