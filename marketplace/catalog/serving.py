"""What a call needs to know of a version: a statement that is compiled once and asked anew.

Only the promises of a version's manifest, which never change, are kept here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Case, Q, QuerySet, Value, When
from django.db.models.expressions import RawSQL
from psycopg import AsyncConnection

from inframind.identity.caller import Caller, insufficient_scope
from inframind.lib import semver
from inframind.lib.access import Kind, Role, model_kind
from inframind.lib.amounts import format_ifm
from inframind.lib.problem import Problem, not_found
from marketplace.catalog.models import Version
from marketplace.catalog.ranking import best_first, unexpired
from marketplace.catalog.tensorspec import Tensors
from marketplace.catalog.visibility import entries_for, may_see, names_successor

_CONTRACTS_KEPT: Final = 1024
# Stand in the compiled statements for what differs from call to call.
_NAME, _NUMBER, _VIEWER = "\x01name", "\x01number", "\x01viewer"
_NAMES: Final = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)
_LIST_FIRST: Final = """
    WITH list AS MATERIALIZED (SELECT EXISTS ({alone}) OR EXISTS ({grouped}) AS has_viewer)
    SELECT found.* FROM list LEFT JOIN LATERAL ({found}) AS found ON true
"""
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
    restricted: bool
    viewer_roles: frozenset[Role]  # what the one who asked is to the model
    fee_base_units: int
    payout_address: str  # as written in the manifest, in whatever case
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None
    runtime: str
    streaming: bool  # its answers come in pieces
    max_batch_size: int
    deprecated_at: datetime | None
    sunset_at: datetime | None
    successor_number: str | None
    state: str
    same_for_all: bool = False  # whether everybody but the owner is told the same

    @cached_property
    def reference(self) -> str:
        """``name@number``."""
        return f"{self.name}@{self.number}"

    @cached_property
    def fee_text(self) -> str:
        """The fee as a reader wants it, like "0.25 IFM"."""
        return format_ifm(self.fee_base_units)

    @cached_property
    def kind(self) -> Kind:
        """What the authorisation table calls its model."""
        return model_kind(
            public=self.public, auth_required=self.auth_required, restricted=self.restricted
        )


@dataclass(frozen=True)
class Contract:
    """The part of a manifest that calls are held against; shared, so never changed."""

    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tensors: Tensors | None
    streaming: bool


class _Found(NamedTuple):
    version_id: UUID
    number: str
    cid: str
    runtime: str
    state: str
    state_reason: str
    fee_base_units: Any
    payout_address: str
    expires_at: datetime | None
    deprecated_at: datetime | None
    sunset_at: datetime | None
    name: str
    owner: str
    auth_required: bool
    public: bool
    restricted: bool
    successor_number: str | None
    successor_name: str | None
    expired: bool
    listed: bool
    successor_told: bool


_COLUMNS: Final = (
    "pk", "number", "cid", "runtime", "state", "state_reason", "fee_base_units", "payout_address",
    "expires_at", "deprecated_at", "sunset_at", "model__name", "model__owner_id",
    "model__auth_required", "model__public", "model__restricted", "successor__number",
    "successor__model_id", "expired", "listed", "successor_told",
)  # fmt: skip
_contracts: dict[UUID, Contract] = {}


def servable(name: str, number: str | None, *, viewer: Caller | None) -> Servable:
    """What a call of ``name`` (its current version, unless a number is given) needs, for reading.

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
    return _servable(found, contract, viewer)


async def servable_on(
    database: AsyncConnection,
    name: str,
    number: str | None,
    *,
    viewer: Caller | None,
    calling: bool = True,
) -> Servable:
    """As ``servable``, for calling unless said otherwise, over an asynchronous connection.

    For calling with a token for its wallet's own models, whatever is not one of them is answered
    with a 403 ``insufficient-scope``, known or not.
    """
    own = calling and viewer is not None and viewer.owned_only
    try:
        cursor = await database.execute(*_statement(name, number, viewer, own=own))
        found = _callable(await cursor.fetchone(), name, number, viewer)
    except Problem as problem:
        if own and problem.status == 404:
            raise insufficient_scope("invoke", name) from None
        raise
    contract = _contracts.get(found.version_id)
    if contract is None:
        row = await (await database.execute(_CONTRACT, (found.version_id,))).fetchone()
        if row is None:
            raise unknown(name, number)
        contract = _keep(found.version_id, json.loads(row[0]))
    return _servable(found, contract, viewer)


def _statement(
    name: str, number: str | None, viewer: Caller | None, *, own: bool = False
) -> tuple[Any, Sequence[Any]]:
    if _NAMES.fullmatch(name) is None:
        raise unknown(name, number)
    if viewer is not None and not viewer.covers(name):
        viewer = None
    given = {_NAME: name, _VIEWER: viewer.address if viewer else None}
    if number is not None:
        given[_NUMBER] = normal_number(name, number)
    sql, parameters = _compiled(
        by_number=number is not None,
        anonymous=viewer is None,
        owned_only=viewer is not None and viewer.owned_only,
        own=own,
    )
    return sql, [_filled(each, given) for each in parameters]


@cache
def _compiled(
    *, by_number: bool, anonymous: bool, owned_only: bool, own: bool
) -> tuple[str, tuple[Any, ...]]:
    """Django takes ten times longer to write this statement than PostgreSQL to answer it."""
    viewer = None if anonymous else Caller(_VIEWER, owned_only=owned_only)
    asks_list = viewer is not None and not owned_only
    on_list = RawSQL("list.has_viewer", (), output_field=BooleanField())
    reach = Q(model__owner=_VIEWER) if own else may_see(viewer, "model__", listed=Q(on_list))
    versions: QuerySet[Version] = Version.objects.filter(reach, model=_NAME)
    # Where nothing can be called, the best of the rest says why.
    versions = versions.filter(number=_NUMBER) if by_number else best_first(versions)
    rows = versions.annotate(
        expired=Case(When(unexpired(), then=False), default=True),
        listed=on_list if asks_list else Value(False),
        successor_told=Case(When(names_successor(viewer), then=True), default=False),
    )
    sql, parameters = rows.values_list(*_COLUMNS)[:1].query.sql_with_params()
    if not asks_list:
        return sql, tuple(parameters)
    alone, grouped = (
        query.order_by().values("pk").query.sql_with_params()
        for query in entries_for(_VIEWER, _NAME)
    )
    # The list is looked into first and always, so that an unknown name costs as much time.
    whole = _LIST_FIRST.format(alone=alone[0], grouped=grouped[0], found=sql)
    return whole, (*alone[1], *grouped[1], *parameters)


def _filled(parameter: Any, given: dict[str, Any]) -> Any:
    if isinstance(parameter, list):
        return [_filled(each, given) for each in parameter]
    return given.get(parameter, parameter) if isinstance(parameter, str) else parameter


def _callable(row: Any, name: str, number: str | None, viewer: Caller | None) -> _Found:
    if row is None or row[0] is None:
        raise unknown(name, number)
    found = _Found(*row)
    reference = f"{found.name}@{found.number}"
    if found.state == Version.State.PENDING:
        if viewer is None or not viewer.owns(found.owner, found.name):
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


def _servable(found: _Found, contract: Contract, viewer: Caller | None) -> Servable:
    successor = found.successor_number if found.successor_told else None
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
        restricted=found.restricted,
        viewer_roles=_roles(found, viewer),
        fee_base_units=int(found.fee_base_units),
        payout_address=found.payout_address,
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
        tensors=contract.tensors,
        runtime=found.runtime,
        streaming=contract.streaming,
        max_batch_size=contract.tensors.max_batch_size if contract.tensors else 0,
        deprecated_at=_utc(found.deprecated_at),
        sunset_at=_utc(found.sunset_at),
        successor_number=successor,
        state=found.state,
        # A successor in another model is told to some only.
        same_for_all=found.public
        and not found.restricted
        and found.successor_name in (None, found.name),
    )


def _roles(found: _Found, viewer: Caller | None) -> frozenset[Role]:
    if viewer is None or not viewer.covers(found.name):
        return frozenset()
    if viewer.address == found.owner:
        return frozenset({Role.OWNER})
    return frozenset({Role.ALLOWED} if found.restricted and found.listed else ())


def _keep(version_id: UUID, manifest: dict[str, Any]) -> Contract:
    tensors = manifest.get("tensors")
    contract = Contract(
        input_schema=manifest["input_schema"],
        output_schema=manifest["output_schema"],
        tensors=Tensors.model_validate(tensors) if tensors else None,
        streaming=bool(manifest.get("streaming", False)),
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
        f"model called {what}",
        "Look for it at /models; if its owner gave you the name, ask them for access.",
    )


def well_formed(name: str) -> bool:
    """Whether there can be a model of this name at all."""
    return _NAMES.fullmatch(name) is not None


def not_on_the_list(name: str) -> Problem:
    """The 403 for a wallet that is not on the allow list of a model that everybody sees."""
    return Problem(
        "not-on-the-list",
        f"{name} is called by invitation, and this wallet is not on its list.",
        status=403,
        remedy=f"Ask its owner: infra model access ask {name}, or the form on its page.",
    )
