"""The web process: `uvicorn inframind.asgi:application`."""

from __future__ import annotations

import asyncio
import contextvars
import gc
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
django.setup(set_prefix=False)

# Their modules read models, which want Django set up.
from marketplace.gateway import bridge, front, loop  # noqa: E402

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
        counted = _Counted(receive, scope)
        try:
            body = await self.read_body(counted)
        except RequestAborted:
            if counted.exceeded:
                await self.send_response(as_response(counted.refusal()), send)
            return
        with closing(body):
            response = await self._in_thread(self._respond, scope, body)
            if counted.cut:
                response.headers["Connection"] = "close"
            try:
                await self._send(response, receive, send)
            finally:
                if response.streaming:
                    await self._in_thread(response.close)

    async def _send(self, response: HttpResponseBase, receive: Any, send: Any) -> None:
        if not isinstance(response, bridge.StreamedAnswer):
            await self.send_response(response, send)
            return
        watching = asyncio.ensure_future(self._end_when_gone(response, receive))
        try:
            await self.send_response(response, send)
        finally:
            watching.cancel()

    async def _end_when_gone(self, response: bridge.StreamedAnswer, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await self._in_thread(response.reader_gone)

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


class _Counted:
    """Receives a body up to a limit: it is spooled to disk before anybody is known.

    Past it, it says that the client has gone, and the reader cleans up; to the gateway's handlers,
    whose refusal it is, it hands what it has as all there is (``cut``).
    """

    def __init__(self, receive: Any, scope: Any) -> None:
        self._receive = receive
        self.taken_bytes = 0
        self.cut = False
        found = front.find(scope["path"])
        self._ours = found is not None
        if found is not None:
            self.limit_bytes = found[0].body_max_bytes
        elif scope["path"].rstrip("/") in PACKAGE_PATHS:
            self.limit_bytes = int(settings.PACKAGE_MAX_BYTES) + PACKAGE_FRAME_BYTES
        else:
            self.limit_bytes = max(
                settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.CALL_BODY_MAX_BYTES + 1
            )
        # What says itself that it is too large is not read at all.
        self._refused = found is not None and any(
            name == b"content-length"
            and front.declared_too_large(
                {"content-length": value.decode("latin-1")}, self.limit_bytes
            )
            for name, value in scope.get("headers", ())
        )

    async def __call__(self) -> Any:
        if self._refused:
            self.cut = True
            return {"type": "http.request", "body": b"", "more_body": False}
        message = await self._receive()
        self.taken_bytes += len(message.get("body", b""))
        if not self.exceeded:
            return message
        if not self._ours:
            return {"type": "http.disconnect"}
        self.cut = True
        return {**message, "more_body": False}

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


class Application:
    """What a server is given: the gateway's front before Django's stack, and the process's start
    and end."""

    def __init__(self, reference: ThreadedHandler) -> None:
        serves_calls = settings.INFRAMIND_ROLE != "web"
        self._http: Any = front.Front(reference) if serves_calls else reference

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serves one HTTP request, or the server's start and end (ASGI lifespan).

        Raises ``ValueError`` for another protocol.
        """
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"Only HTTP is served here, not {scope['type']}.")

    async def _live(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                loop.adopt()
                # What is there at the start stays: it is never looked through again, which would
                # hold every call up for as long.
                gc.collect()
                gc.freeze()
                await send({"type": "lifespan.startup.complete"})
            else:
                await loop.release()
                await send({"type": "lifespan.shutdown.complete"})
                return


# The reference front alone, which the other is held against.
reference = ThreadedHandler()
application = Application(reference)
