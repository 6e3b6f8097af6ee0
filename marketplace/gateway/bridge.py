"""The reference front: the gateway's handlers behind the REST framework, under any server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from django.conf import settings
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from marketplace.gateway import front, loop
from marketplace.gateway import wire as http

# The pipeline keeps its own deadline; this only guards against its never coming back.
GRACE_SECONDS: Final = 5.0


class AnyAccept(BaseContentNegotiation):
    """What comes out is the handler's to say, whatever the client says it would like."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0] if parsers else None

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return JSONRenderer(), "application/json"


class HandlerView(APIView):
    """A view of one of ``front.ROUTES``: its methods only call ``answered``, and describe the
    address for OpenAPI."""

    content_negotiation_class = AnyAccept
    # The handlers authenticate: a view that held a database connection while it waits for the
    # loop would starve the calls it waits for.
    authentication_classes = []

    @property
    def default_response_headers(self) -> dict[str, str]:
        """None: the handlers say every header."""
        return {}

    def answered(self, request: Request) -> HttpResponseBase:
        """What the route's handler answers to the request."""
        django = request._request
        found = front.find(django.path_info)
        if found is None:
            raise Http404
        route, reference = found
        headers = {name.lower(): value for name, value in django.headers.items()}
        limit_bytes = route.body_max_bytes
        too_large = front.declared_too_large(headers, limit_bytes)
        # One byte more than allowed tells a body that is too large from one that just fits.
        octets = b"" if too_large else bytes(django.read(limit_bytes + 1))
        asked = http.Request(
            method=str(django.method),
            path=django.path_info,
            query=django.META.get("QUERY_STRING", ""),
            headers=headers,
            body=octets,
            remote_address=django.META.get("REMOTE_ADDR", ""),
        )
        answer = loop.submit(
            front.answer(
                route,
                asked,
                reference,
                request_id=django.META.get("REQUEST_ID", ""),
                too_large=too_large or len(octets) > limit_bytes,
            ),
            _patience_seconds(),
            call_id=asked.call_id,
        )
        if isinstance(answer.body, bytes):
            response: HttpResponseBase = HttpResponse(answer.body, status=answer.status)
        else:
            response = StreamedAnswer(answer)
        if "Content-Type" not in answer.headers:
            del response.headers["Content-Type"]
        for name, value in answer.headers.items():
            response.headers[name] = value
        return response

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.answered(request)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return self.answered(request)


class StreamedAnswer(StreamingHttpResponse):
    """An answer whose pieces come from the gateway's loop."""

    def __init__(self, answer: http.Answer) -> None:
        if isinstance(answer.body, bytes):
            raise TypeError("A body of bytes is not streamed.")
        self._pieces = http.Pieces(answer.body)
        super().__init__(_Pieces(self._pieces), status=answer.status)

    def reader_gone(self) -> None:
        """Ends what makes the pieces. From any thread, also while another waits for a piece."""
        loop.submit(self._pieces.end(), GRACE_SECONDS)


class _Pieces:
    def __init__(self, pieces: http.Pieces) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = loop.submit(self._pieces.next(), _patience_seconds())
        if piece is None:
            raise StopIteration
        return piece

    def close(self) -> None:
        loop.submit(self._pieces.end(), GRACE_SECONDS)


def _patience_seconds() -> float:
    return float(settings.CALL_DEADLINE_SECONDS + GRACE_SECONDS)
