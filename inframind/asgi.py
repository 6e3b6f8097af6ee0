"""The web process: `uvicorn inframind.asgi:application`."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import IO, Any, Final, ParamSpec, TypeVar, cast

import django
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.base import BaseHandler
from django.db import close_old_connections
from django.http.response import HttpResponseBase, StreamingHttpResponse
from django.urls import set_script_prefix

from inframind.lib.problem import Problem
from inframind.problems import as_response

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inframind.settings")

P = ParamSpec("P")
Result = TypeVar("Result")

# Calls wait in these for their model, so there are many more than cores.
THREADS: Final = 64
PACKAGE_PATHS: Final = frozenset({"/api/v1/models", "/publish"})
PACKAGE_FRAME_BYTES: Final = 1 << 20  # the multipart form around a package


class ThreadedHandler(ASGIHandler):
    """Django's stack, which is synchronous here, whole in one thread of a pool.

    The handler above changes threads at every middleware, makes a thread for each request, and
    gathers a streamed answer in memory before it sends it.
    """

    def __init__(self) -> None:
        BaseHandler.__init__(self)
        self.load_middleware()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="web")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one HTTP request. Raises ``ValueError`` for another protocol."""
        if scope["type"] != "http":
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")
        counted = _Counted(receive, _body_limit_bytes(scope))
        try:
            body = await self.read_body(counted)
        except RequestAborted:
            if counted.exceeded:
                await self.send_response(as_response(counted.refusal()), send)
            return
        with closing(body):
            response = await self._in_thread(self._respond, scope, body)
            try:
                await self.send_response(response, send)
            finally:
                if response.streaming:
                    await self._in_thread(response.close)

    def _respond(self, scope: Any, body: IO[bytes]) -> HttpResponseBase:
        set_script_prefix(get_script_prefix(scope))
        signals.request_started.send(sender=type(self), scope=scope)
        request, refused = self.create_request(scope, body)
        # One of the two is there.
        response = self.get_response(request) if request is not None else refused
        if response is None:
            raise RuntimeError("Django made neither a request nor a refusal.")
        if not response.streaming:
            # Tells everybody that the request is over, here, where its connections are.
            response.close()
            return response
        streamed = cast(StreamingHttpResponse, response)
        if not streamed.is_async:
            streamed.streaming_content = self._streamed(iter(streamed))
        close_old_connections()
        return streamed

    async def _streamed(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self._in_thread(next, pieces, None)) is not None:
            yield piece

    async def _in_thread(
        self, work: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: context.run(work, *args, **kwargs))


def _body_limit_bytes(scope: Any) -> int:
    """How much of a body is taken before anybody is known: it is spooled to disk meanwhile."""
    if scope["path"].rstrip("/") in PACKAGE_PATHS:
        return int(settings.PACKAGE_MAX_BYTES) + PACKAGE_FRAME_BYTES
    return max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.CALL_BODY_MAX_BYTES + 1)


class _Counted:
    """Receives a body up to a limit, then says that the client has gone: the reader cleans up."""

    def __init__(self, receive: Any, limit_bytes: int) -> None:
        self._receive = receive
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0

    async def __call__(self) -> Any:
        message = await self._receive()
        self.taken_bytes += len(message.get("body", b""))
        return {"type": "http.disconnect"} if self.exceeded else message

    @property
    def exceeded(self) -> bool:
        return self.taken_bytes > self.limit_bytes

    def refusal(self) -> Problem:
        return Problem(
            "too-large",
            f"The request body is larger than {self.limit_bytes} bytes.",
            status=413,
            remedy="Send less.",
            headers={"Connection": "close"},
        )


django.setup(set_prefix=False)
application = ThreadedHandler()
