"""One HTTP client for all commands: addresses, token, and every failure turned into a Refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from inframind.cli import refusal, settings
from inframind.cli.refusal import Refusal

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_SECONDS: Final = 10.0
ANSWER_TIMEOUT_SECONDS: Final = 60.0
# Answers that are held in memory; packages are streamed and have no limit here.
MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024


class Server:
    """The InfraMind server of the settings. Close it, or use it in a ``with`` statement."""

    def __init__(self, configured: settings.Settings | None = None) -> None:
        import httpx

        self.settings = configured or settings.load()
        headers = {"User-Agent": "infra", "Accept": "application/json"}
        if self.settings.token:
            headers["Authorization"] = f"Bearer {self.settings.token}"
        self._client = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            # A redirect could carry the token elsewhere; the user is told the new address instead.
            follow_redirects=False,
            # A proxy of the environment cannot reach this machine's own loopback.
            trust_env=not self.settings.on_this_machine,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def url(self, path: str) -> str:
        return f"{self.settings.url}{path}"

    def require_token(self, action: str) -> None:
        """Raises Refusal (exit 4) before anything is sent when there is no token."""
        if not self.settings.token:
            raise refusal.not_signed_in(
                action, url=self.settings.url, expired_at=self.settings.expired_at
            )

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object at a path, or at a full address that the server itself gave."""
        return self.document("GET", path, params=params)

    def document(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON object of the answer; raises Refusal."""
        _, document = self.exchange(method, path, **request)
        return document

    def exchange(self, method: str, path: str, **request: Any) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object of the answer; raises Refusal."""
        with self.answer(method, path, **request) as response:
            body = _read(response, self.url(path))
            status = response.status_code
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise refusal.failed(
                "unexpected-answer",
                f"{self.url(path)} did not answer with a JSON object.",
                "Check that INFRA_URL names an InfraMind server.",
            )
        return status, document

    def send(self, method: str, path: str, **request: Any) -> None:
        """A request whose answer says nothing but that it was done; raises Refusal."""
        with self.answer(method, path, **request) as response:
            _read(response, self.url(path))

    @contextmanager
    def answer(
        self, method: str, path: str, *, costs: bool = False, **request: Any
    ) -> Iterator[httpx.Response]:
        """The open answer to a request, its body unread; raises Refusal for anything but success.

        With ``costs``, a connection that breaks after sending leaves open whether a fee was paid.
        """
        url = self.url(path)
        with self._translated(url, costs=costs):
            request_object = self._client.build_request(method, url, **request)
            response = self._client.send(request_object, stream=True)
            try:
                if response.is_redirect:
                    raise self._redirected(response)
                if not response.is_success:
                    body = _read(response, url)
                    raise refusal.from_answer(
                        response.status_code,
                        body,
                        url=url,
                        retry_after=response.headers.get("Retry-After", ""),
                        receipt=response.headers.get("Inframind-Receipt", ""),
                    )
                yield response
            finally:
                response.close()

    @contextmanager
    def _translated(self, url: str, *, costs: bool) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx.TimeoutException as error:
            raise refusal.failed(
                "no-answer-in-time",
                f"{url} did not answer in time.",
                "Give it more with --timeout, or repeat the call with the same --idempotency-key."
                if costs
                else "Try again later.",
                charged=None if costs else False,
                retry_safe=None if costs else True,
            ) from error
        except httpx.RequestError as error:
            raise refusal.failed(
                "connection-broke",
                f"The connection to {self.settings.url} broke: {error or type(error).__name__}.",
                "Check the network, then repeat the call with the same --idempotency-key."
                if costs
                else "Check the network, then try again.",
                charged=None if costs else False,
                retry_safe=None if costs else True,
            ) from error

    def _unreachable(self, error: Exception) -> Refusal:
        return refusal.failed(
            "server-unreachable",
            f"No server answers at {self.settings.url} (from {self.settings.url_source}): {error}.",
            "Start one with `make demo`, or name another: export INFRA_URL=https://your.server "
            f'(or url = "…" in {settings.config_path()}).',
            retry_safe=True,
        )

    def _redirected(self, response: httpx.Response) -> Refusal:
        target = response.headers.get("Location", "elsewhere")
        return refusal.failed(
            "server-moved",
            f"{self.settings.url} sends requests on to {target}; the command does not follow, so "
            "that your token goes only where you said.",
            "If that is the right server, set INFRA_URL to it.",
        )


def model_path(name: str, version: str = "", rest: str = "") -> str:
    """The REST path of a model, or of a version of it."""
    path = f"/api/v1/models/{quote(name, safe='')}"
    if version:
        path += f"/versions/{quote(version, safe='')}"
    return path + rest


def _read(response: httpx.Response, url: str) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise refusal.failed("answer-too-large", f"{url} answers with more than can be held.")
    return bytes(body)
