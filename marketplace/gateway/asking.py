"""Who asks about a model, and what they may see of it."""

from __future__ import annotations

from inframind.identity.api import bearer_of
from inframind.identity.caller import Caller
from marketplace.catalog.queries import Servable, servable_on
from marketplace.gateway import resources
from marketplace.gateway.wire import Request
from marketplace.mesh.asyncdb import connection


async def caller_of(request: Request) -> Caller | None:
    """Whose token came with the request; without one, whom the front knows. 401, 403."""
    bearer = bearer_of(request.headers.get("authorization", ""))
    if bearer is None:
        return request.caller
    knowledge = (await resources.here()).knowledge
    return await knowledge.caller(bearer, request.remote_address)


async def version_seen(reference: str, viewer: Caller | None) -> Servable:
    """The version as the viewer may see it, asked of the database now. 404, 409, 410."""
    name, _, number = reference.partition("@")
    async with connection() as database:
        return await servable_on(database, name, number or None, viewer=viewer, calling=False)
