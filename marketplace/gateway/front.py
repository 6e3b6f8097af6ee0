"""The gateway's addresses, and the front that serves them without a framework.

``ROUTES`` is the one table of addresses; ``answer`` is what both fronts ask. ``Front`` is the ASGI
callable of production: it awaits the handlers on the server's own loop. What is odd about a request
before a handler could see it (a host that is not ours, HTTP where HTTPS is demanded, a browser's
cookies) goes to the reference front, whose answer to it is Django's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import psycopg
import structlog
from django.conf import settings
from psycopg_pool import PoolTimeout

from inframind.identity.api import refuse_token_in
from inframind.lib.problem import Problem, for_protocol
from inframind.middleware import ACCEPTABLE_REQUEST_ID
from inframind.problems import internal_error
from marketplace.gateway import batch, body, calling, oipserving
from marketplace.gateway.outward import Outward
from marketplace.gateway.recorder import no_database
from marketplace.gateway.wire import Answer, Handler, Pieces, Request, problem_answer

log = structlog.get_logger(__name__)

_MAX_FIELDS: Final = 1000  # of a query string, as Django allows


@dataclass(frozen=True, eq=False)
class Route:
    """One address. In its ``pattern`` ``{name}`` and ``{version}`` stand for a piece of the path
    each; together they are the reference that the handlers are given.

    ``body_limit`` names the setting with the most bytes that a body may have. With
    ``error_member`` a problem says its detail as ``error`` too, as the Open Inference Protocol
    has it.
    """

    pattern: str
    handlers: Mapping[str, Handler]  # by HTTP method; GET answers HEAD too
    body_limit: str = "CALL_BODY_MAX_BYTES"
    error_member: bool = False
    regex: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = re.split(r"\{(name|version)\}", self.pattern)
        regex = "".join(
            f"(?P<{part}>[^/]+)" if at % 2 else re.escape(part) for at, part in enumerate(parts)
        )
        object.__setattr__(self, "regex", re.compile(rf"{regex}\Z"))

    @property
    def body_max_bytes(self) -> int:
        return int(getattr(settings, self.body_limit))

    @property
    def allow(self) -> str:
        """The value of the header ``Allow``."""
        head = ["HEAD"] if "GET" in self.handlers else []
        return ", ".join(sorted([*self.handlers, *head, "OPTIONS"]))


# The first is found without a regular expression.
_CALLS: Final = Route("/inference/v1/{name}", {"GET": calling.describe, "POST": calling.call})
_CALLS_PREFIX: Final = "/inference/v1/"
_PREFIXES: Final = ("/inference/", "/v2")
ROUTES: Final[tuple[Route, ...]] = (
    _CALLS,
    Route("/inference/v1/{name}/batch", {"POST": batch.call}),
    *(
        Route(f"/v2{path}", {method: handler}, error_member=True)
        for path, method, handler in oipserving.ADDRESSES
    ),
)


def find(path: str) -> tuple[Route, str] | None:
    """The route of a path and the model's reference in it, "" where it has none."""
    if path.startswith(_CALLS_PREFIX):
        reference = path[len(_CALLS_PREFIX) :]
        if reference and "/" not in reference:
            return _CALLS, reference
    elif not path.startswith(_PREFIXES):
        return None
    for route in ROUTES:
        found = route.regex.match(path)
        if found is not None:
            pieces = found.groupdict()
            reference, number = pieces.get("name") or "", pieces.get("version")
            return route, f"{reference}@{number}" if number else reference
    return None


async def answer(
    route: Route, request: Request, reference: str, *, request_id: str, too_large: bool = False
) -> Answer:
    """What a request is answered, whichever front it came through; refusals included.

    ``too_large``: its body is larger than the route's limit, and was not read to its end.
    """
    try:
        if request.query:
            _check_query(request.query)
        method = "GET" if request.method == "HEAD" else request.method
        handler = route.handlers.get(method)
        if handler is None:
            return _without_handler(route, request.method)
        if too_large:
            raise body.too_large(route.body_max_bytes)
        return await handler(request, reference)
    except Problem as problem:
        refused = problem
    except (psycopg.OperationalError, PoolTimeout) as error:
        log.warning("no database", request_id=request_id, reason=type(error).__name__)
        refused = no_database()
    except Exception:
        log.exception("request broke", path=request.path, request_id=request_id)
        refused = internal_error()
    if route.error_member:
        refused = for_protocol(refused)
    return problem_answer(refused, request_id=request_id)


def _without_handler(route: Route, method: str) -> Answer:
    if method == "OPTIONS":
        return Answer(204, b"", {"Allow": route.allow})
    raise Problem(
        "method-not-allowed",
        f"{method} is not for this address.",
        status=405,
        remedy=f"Use one of {route.allow}.",
        headers={"Allow": route.allow},
    )


def _check_query(query: str) -> None:
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise Problem(
            "invalid-request",
            f"The address has more than {_MAX_FIELDS} fields after its question mark.",
            remedy="Send what the model needs in the body.",
        ) from None
    refuse_token_in(fields)


def declared_too_large(headers: Mapping[str, str], limit_bytes: int) -> bool:
    """Whether a request says itself that its body is larger than that."""
    declared = headers.get("content-length")
    return declared is not None and declared.isdecimal() and int(declared) > limit_bytes


class Front:
    """Serves the routes; what is none of them goes to ``reference``, an ASGI callable."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._outward = Outward()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one HTTP request."""
        path: str = scope["path"]
        found = find(path)
        if found is None:
            await self._reference(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        query = _query(scope["query_string"])
        secure = self._outward.is_secure(scope, headers)
        if query is None or not self._outward.admits(scope, headers, secure=secure):
            await self._reference(scope, receive, send)
            return
        route, reference = found
        limit_bytes = route.body_max_bytes
        too_large = declared_too_large(headers, limit_bytes)
        octets = b""
        if not too_large:
            read = await _body(receive, limit_bytes)
            if read is None:
                return
            octets = read
            too_large = len(octets) > limit_bytes
        client = scope.get("client")
        request = Request(
            scope["method"],
            path,
            query,
            headers,
            octets,
            client[0] if client else "",
            gone=_Gone(receive),
        )
        given = headers.get("x-request-id")
        # A call's id is as good as another, and what it did can be found by it.
        request_id = request.call_id.hex
        if given is not None and ACCEPTABLE_REQUEST_ID.match(given):
            request_id = given
        answered = await answer(
            route, request, reference, request_id=request_id, too_large=too_large
        )
        lines = self._outward.lines(answered, request_id, secure=secure, closing=too_large)
        await _send(answered, lines, receive, send)


class _Gone:
    """Returns once the client has gone. Only after the body was read."""

    __slots__ = ("_receive",)

    def __init__(self, receive: Any) -> None:
        self._receive = receive

    async def __call__(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _query(octets: bytes) -> str | None:
    """None for what is no text."""
    if not octets:
        return ""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def _headers(lines: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in lines}
    if len(headers) < len(lines):
        headers = {}
        for raw, value in lines:
            name = raw.decode("latin-1")
            text = value.decode("latin-1")
            headers[name] = f"{headers[name]},{text}" if name in headers else text
    return headers


async def _body(receive: Any, limit_bytes: int) -> bytes | None:
    """The body, or a little more than its limit of it; None where the client went away."""
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    octets: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return octets
    pieces, size = [octets], len(octets)
    while message.get("more_body") and size <= limit_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
    return b"".join(pieces)


async def _send(found: Answer, lines: list[tuple[bytes, bytes]], receive: Any, send: Any) -> None:
    start = {"type": "http.response.start", "status": found.status, "headers": lines}
    if isinstance(found.body, bytes):
        await send(start)
        await send({"type": "http.response.body", "body": found.body})
        return
    pieces = Pieces(found.body)
    watching = asyncio.ensure_future(_end_when_gone(pieces, receive))
    try:
        await send(start)
        while (piece := await pieces.next()) is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})
    finally:
        watching.cancel()
        await pieces.end()


async def _end_when_gone(pieces: Pieces, receive: Any) -> None:
    await _Gone(receive)()
    await pieces.end()
