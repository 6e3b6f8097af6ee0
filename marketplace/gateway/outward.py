"""What Django's middleware puts around every answer, for the front that has no middleware.

The header lines are taken from the middleware classes themselves, once per process, so that there
is one place that says what they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware

from marketplace.gateway.wire import Answer

Line = tuple[bytes, bytes]
_HOSTS_KEPT: Final = 256
_CLOSE: Final[Line] = (b"connection", b"close")


class _Names(dict[str, bytes]):
    """Header names as they are sent."""

    def __missing__(self, name: str) -> bytes:
        made = self[name] = name.lower().encode("ascii")
        return made


class Outward:
    """Which requests need Django's own answer, and the lines of every answer.

    Settings are read once: a front lives as long as its process.
    """

    def __init__(self) -> None:
        self._hosts: set[str] = set()  # known to be ours
        self._names = _Names()
        self._https_only = settings.SECURE_SSL_REDIRECT
        header, self._https_value = settings.SECURE_PROXY_SSL_HEADER or ("", "")
        self._https_header = header.removeprefix("HTTP_").replace("_", "-").lower()

    def is_secure(self, scope: Any, headers: Mapping[str, str]) -> bool:
        """Whether the client came by HTTPS, as far as Django would believe it."""
        if self._https_header and self._https_header in headers:
            return headers[self._https_header].split(",")[0].strip() == self._https_value
        return bool(scope["scheme"] == "https")

    def admits(self, scope: Any, headers: Mapping[str, str], *, secure: bool) -> bool:
        """Whether the handlers may be asked. If not, the reference front says what is wrong."""
        if scope.get("root_path") or (self._https_only and not secure) or "cookie" in headers:
            return False
        host = headers.get("host", "")
        return host in self._hosts or self._is_ours(host)

    def lines(
        self, answer: Answer, request_id: str, *, secure: bool, closing: bool = False
    ) -> list[Line]:
        """The header lines of an answer; ``closing``: the connection ends with it."""
        names = self._names
        headers = answer.headers
        lines = list(zip(map(names.__getitem__, headers), _octets(headers.values()), strict=True))
        if isinstance(answer.body, bytes):
            lines.append((b"content-length", b"%d" % len(answer.body)))
        lines.append((b"x-request-id", request_id.encode("ascii")))
        if closing:
            lines.append(_CLOSE)
        lines += settled(secure)
        return lines

    def _is_ours(self, host: str) -> bool:
        # As HttpRequest.get_host does it.
        domain, _ = split_domain_port(host)
        if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
            return False
        if len(self._hosts) < _HOSTS_KEPT:
            self._hosts.add(host)
        return True


def _octets(values: Collection[str]) -> list[bytes]:
    text = "\n".join(values)
    if text.isascii() and "\r" not in text:
        octets = text.encode("ascii").split(b"\n")
        if len(octets) == len(values):
            return octets
    # As Django spells what no header can hold, or refuses it.
    return [HttpResponse(headers={"X": each}).headers["X"].encode("latin-1") for each in values]


@cache
def settled(secure: bool) -> list[Line]:
    """The lines that are the same on every answer."""
    request = HttpRequest()
    request.META = {"SERVER_NAME": "", "SERVER_PORT": "443" if secure else "80"}
    request._get_scheme = lambda: "https" if secure else "http"  # type: ignore[attr-defined]
    response = HttpResponse()
    del response.headers["Content-Type"]
    csp = CSPMiddleware(lambda _: response)
    csp.process_request(request)
    csp.process_response(request, response)
    XFrameOptionsMiddleware(lambda _: response).process_response(request, response)
    SecurityMiddleware(lambda _: response).process_response(request, response)
    return [(name.lower().encode(), value.encode()) for name, value in response.items()]
