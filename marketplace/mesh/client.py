"""What is asked of a node by the Open Inference Protocol v2: is it there, and inference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
import orjson

from marketplace.mesh import sockets, transport
from marketplace.mesh.errors import (
    ConnectionLost,
    LoadFailed,
    ModelCrashed,
    ModelFailed,
    NodeError,
    NodeTimeout,
    NodeUnreachable,
    NotConnected,
    NotLoaded,
)
from marketplace.mesh.sockets import Pool
from marketplace.mesh.tensors import Tensor
from marketplace.mesh.wireform import Incoming, Outgoing, outgoing_of, tensors_of

__all__ = [
    "CONNECT_SECONDS",
    "Address",
    "ConnectionLost",
    "Incoming",
    "LoadFailed",
    "ModelCrashed",
    "ModelFailed",
    "NodeError",
    "NodeTimeout",
    "NodeUnreachable",
    "NotConnected",
    "NotLoaded",
    "Outgoing",
    "answers_at_all",
    "error_of",
    "error_text",
    "headers_of",
    "infer",
    "infer_once",
    "metadata",
    "model_ready",
    "outgoing_of",
    "server_live",
    "tensors_of",
]

LOOK_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 0.4
_ERROR_MAX_CHARACTERS: Final = 400
# What a node says beyond this is no error that a server writes, and is not looked at.
_ERROR_MAX_BYTES: Final = 64 << 10
_ERROR_READ_CHARACTERS: Final = 2_000
_LENGTH_MAX_DIGITS: Final = 18
_LOAD_FRAME: Final = re.compile(
    r"\Aload failed for model '[^']*': version \d+ is at UNAVAILABLE state: "
    r"(?:[A-Z][A-Za-z]* ?[A-Za-z]*: )?(?:TritonModelException: )?"
)
# Triton compresses when it may, which costs more than it saves between neighbours.
_LINES: Final = b"Accept-Encoding: identity\r\nContent-Type: application/octet-stream\r\n"
_GONE: Final = "Request for unknown model"
_CRASHED: Final = "Stub process"


@dataclass(frozen=True)
class Address:
    """How to reach and command one node."""

    endpoint: str
    grpc_endpoint: str = ""
    control_header: str = ""
    control_secret: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {self.control_header: self.control_secret} if self.control_header else {}


def server_live(address: Address) -> bool:
    """Whether the server answers; no statement about any model.

    Not "ready": under strict readiness one model that failed to load makes the server unready.
    """
    return _look(address, "/v2/health/live")


def model_ready(address: Address, triton_model: str) -> bool:
    """Whether this node holds the model and would answer for it."""
    return _look(address, f"/v2/models/{quote(triton_model, safe='')}/ready")


def metadata(address: Address) -> dict[str, Any]:
    """The server's name, version and extensions. Raises ``NodeUnreachable``, ``NodeError``."""
    answer = _get(address, "/v2")
    try:
        document = orjson.loads(answer.content)
    except orjson.JSONDecodeError:
        document = None
    if answer.status_code != 200 or not isinstance(document, dict) or "name" not in document:
        raise NodeError(
            f"{address.endpoint}/v2 does not answer with Open Inference Protocol metadata "
            f"(status {answer.status_code})."
        )
    return document


def infer_once(
    address: Address, triton_model: str, tensors: Sequence[Tensor], *, timeout_seconds: float
) -> list[Tensor]:
    """A call outside the event loop, for verification and registration. Raises as ``infer``."""
    outgoing = outgoing_of(tensors)
    try:
        answer = transport.request(
            "POST",
            address.endpoint + f"/v2/models/{quote(triton_model, safe='')}/infer",
            content=outgoing.body if isinstance(outgoing.body, bytes) else b"".join(outgoing.body),
            headers=headers_of(outgoing),
            timeout_seconds=timeout_seconds,
        )
    except httpx.ConnectError as error:
        raise NodeUnreachable(str(error)) from None
    except httpx.TimeoutException:
        raise NodeTimeout(f"No answer within {timeout_seconds:g} s.") from None
    except httpx.HTTPError as error:
        raise NodeUnreachable(f"{type(error).__name__}: {error}") from None
    header_length = answer.headers.get("Inference-Header-Content-Length", "").encode()
    return tensors_of(_incoming(answer.status_code, answer.content, header_length))


async def infer(
    pool: Pool,
    endpoint: str,
    triton_model: str,
    outgoing: Outgoing,
    *,
    timeout_seconds: float,
    connect_seconds: float = CONNECT_SECONDS,
) -> Incoming:
    """One inference.

    Raises ``NodeUnreachable``, ``NodeTimeout``, ``NotLoaded``, ``ModelFailed``.
    """
    lines = _LINES
    if outgoing.header_length is not None:
        lines += b"Inference-Header-Content-Length: %d\r\n" % outgoing.header_length
    try:
        reply = await pool.request(
            "POST",
            endpoint,
            f"/v2/models/{triton_model}/infer",
            body=outgoing.body,
            headers=lines,
            timeout_seconds=timeout_seconds,
            connect_seconds=connect_seconds,
            watched=True,
        )
    except sockets.Broken as error:
        raise ConnectionLost(str(error)) from None
    except sockets.NoConnection as error:
        raise NotConnected(str(error)) from None
    except sockets.TimedOut as error:
        raise NodeTimeout(str(error)) from None
    except sockets.TooLarge as error:
        raise ModelFailed(str(error)) from None
    except sockets.WireError as error:
        raise NodeUnreachable(str(error)) from None
    return _incoming(
        reply.status, reply.content, reply.headers.get(b"inference-header-content-length")
    )


async def answers_at_all(pool: Pool, endpoint: str) -> bool:
    """A short look whether the server is alive, for calls that wait on a silent node."""
    try:
        reply = await pool.request(
            "GET", endpoint, "/v2/health/live", timeout_seconds=1.0, connect_seconds=1.0
        )
    except sockets.WireError:
        return False
    return reply.status == 200


def headers_of(outgoing: Outgoing) -> dict[str, str]:
    """The HTTP headers that go with a request."""
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/octet-stream"}
    if outgoing.header_length is not None:
        headers["Inference-Header-Content-Length"] = str(outgoing.header_length)
    return headers


def _incoming(status: int, content: bytes, header_length: bytes | None) -> Incoming:
    if status == 200:
        if not header_length:
            return Incoming(content, None)
        # A length that lies is found out when the tensors are read.
        is_length = header_length.isdigit() and len(header_length) <= _LENGTH_MAX_DIGITS
        return Incoming(content, int(header_length) if is_length else -1)
    content = content[:_ERROR_MAX_BYTES]
    detail = error_of(content)
    if status in (404, 503) or (status == 400 and detail.startswith(_GONE)):
        raise NotLoaded(detail)
    if not _is_error(content):
        # No inference server says so, but what stands before it, or something else altogether.
        raise NodeUnreachable(f"The node answered with status {status}: {detail}")
    raise ModelCrashed(detail) if _CRASHED in detail else ModelFailed(detail)


def error_of(content: bytes) -> str:
    """The text of a node's error answer, for a person."""
    try:
        return error_text(str(orjson.loads(content)["error"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return error_text(content[:_ERROR_MAX_CHARACTERS].decode(errors="replace"))


def _is_error(content: bytes) -> bool:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and "error" in document


def error_text(text: str) -> str:
    """A node's error in one line, without Triton's frame and our runner's stack."""
    # What a person needs is between Triton's own frame and the place in our runner.
    text = _LOAD_FRAME.sub("", text[:_ERROR_READ_CHARACTERS]).split("\n\nAt:\n")[0]
    return " ".join(text.split())[:_ERROR_MAX_CHARACTERS]


def _get(address: Address, path: str) -> httpx.Response:
    try:
        return transport.request("GET", address.endpoint + path, timeout_seconds=LOOK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NodeUnreachable(
            f"{urlsplit(address.endpoint).netloc} does not answer ({type(error).__name__})."
        ) from None


def _look(address: Address, path: str) -> bool:
    try:
        return _get(address, path).status_code == 200
    except NodeUnreachable:
        return False
