"""What is asked of a node by the Open Inference Protocol v2: is it there, and inference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import httpx
import numpy as np
import orjson
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from marketplace.mesh import transport
from marketplace.mesh.tensors import NUMPY_TYPES, Tensor

LOOK_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 0.4
_ANSWER_MAX_BYTES: Final = 64 << 20
_ERROR_MAX_CHARACTERS: Final = 400
_LOAD_FRAME: Final = re.compile(
    r"\Aload failed for model '[^']*': version \d+ is at UNAVAILABLE state: "
    r"(?:[A-Z][A-Za-z]* ?[A-Za-z]*: )?(?:TritonModelException: )?"
)
_GONE: Final = "Request for unknown model"
_CRASHED: Final = "Stub process"


class NodeError(Exception):
    """A node did not do what it was asked; the text is for a person."""


class NodeUnreachable(NodeError):
    """Nothing answers at the node's address, or its connection broke: another node may serve."""


class ConnectionLost(NodeUnreachable):
    """The connection broke under the call; a fresh one to the same node may work."""


class NodeTimeout(NodeError):
    """The node took the call but did not answer in the time given."""


class NotLoaded(NodeError):
    """The node lives but does not hold the model (any more): another node may serve."""


class ModelFailed(NodeError):
    """The model itself gave an error; another node would give the same."""


class ModelCrashed(ModelFailed):
    """The model took its process with it; the node has to load it again."""


class LoadFailed(NodeError):
    """The node could not load the model."""


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
    body, headers = request_of(tensors)
    try:
        answer = transport.request(
            "POST",
            address.endpoint + f"/v2/models/{quote(triton_model, safe='')}/infer",
            content=body,
            headers=headers,
            timeout_seconds=timeout_seconds,
        )
    except httpx.ConnectError as error:
        raise NodeUnreachable(str(error)) from None
    except httpx.TimeoutException:
        raise NodeTimeout(f"No answer within {timeout_seconds:g} s.") from None
    except httpx.HTTPError as error:
        raise NodeUnreachable(f"{type(error).__name__}: {error}") from None
    return _response(
        answer.status_code, answer.content, answer.headers.get("Inference-Header-Content-Length")
    )


def session_options() -> dict[str, Any]:
    """For an ``aiohttp.ClientSession`` of one event loop that keeps connections to every node."""
    return {
        "connector": aiohttp.TCPConnector(
            limit=0, keepalive_timeout=20, ttl_dns_cache=10, resolver=transport.resolver()
        ),
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
    }


async def infer(
    http: aiohttp.ClientSession,
    endpoint: str,
    triton_model: str,
    tensors: Sequence[Tensor],
    *,
    timeout_seconds: float,
    connect_seconds: float = CONNECT_SECONDS,
) -> list[Tensor]:
    """One inference.

    Raises ``NodeUnreachable``, ``NodeTimeout``, ``NotLoaded``, ``ModelFailed``.
    """
    body, headers = request_of(tensors)
    timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=connect_seconds)
    try:
        async with http.post(
            f"{endpoint}/v2/models/{triton_model}/infer",
            data=body,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
        ) as answer:
            if (answer.content_length or 0) > _ANSWER_MAX_BYTES:
                raise ModelFailed(f"The answer is larger than {_ANSWER_MAX_BYTES >> 20} MiB.")
            content = await answer.read()
            header_length = answer.headers.get("Inference-Header-Content-Length")
            return _response(answer.status, content, header_length)
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise NodeUnreachable(f"No connection: {error}") from None
    except TimeoutError:
        raise NodeTimeout(f"No answer within {timeout_seconds:.1f} s.") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionLost(f"{type(error).__name__}: {error}") from None


async def answers_at_all(http: aiohttp.ClientSession, endpoint: str) -> bool:
    """A short look whether the server is alive, for calls that wait on a silent node."""
    try:
        async with http.get(
            f"{endpoint}/v2/health/live", timeout=aiohttp.ClientTimeout(total=1.0)
        ) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def request_of(tensors: Sequence[Tensor]) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an inference request, binary tensor data."""
    inputs = []
    for tensor in tensors:
        item = triton_http.InferInput(tensor.name, list(tensor.shape), tensor.dtype)
        item.set_data_from_numpy(tensor.data)
        inputs.append(item)
    body, json_size = triton_http.InferenceServerClient.generate_request_body(inputs)
    # Triton compresses when it may, which costs more than it saves between neighbours.
    headers = {"Accept-Encoding": "identity", "Content-Type": "application/octet-stream"}
    if json_size is not None:
        headers["Inference-Header-Content-Length"] = str(json_size)
    return body, headers


def _response(status: int, content: bytes, header_length: str | None) -> list[Tensor]:
    if status != 200:
        detail = error_of(content)
        if status in (404, 503) or (status == 400 and detail.startswith(_GONE)):
            raise NotLoaded(detail)
        raise ModelCrashed(detail) if _CRASHED in detail else ModelFailed(detail)
    length = int(header_length) if header_length else None
    try:
        result = triton_http.InferenceServerClient.parse_response_body(
            content, header_length=length
        )
        described = result.get_response()["outputs"]
        return [_tensor(result, each) for each in described]
    except (InferenceServerException, KeyError, TypeError, ValueError) as error:
        raise ModelFailed(f"The node's answer cannot be read: {error}") from None


def _tensor(result: Any, described: dict[str, Any]) -> Tensor:
    data = result.as_numpy(described["name"])
    if data is None or described["datatype"] not in NUMPY_TYPES:
        raise ValueError(f"output {described['name']!r} has type {described['datatype']}")
    return Tensor(described["name"], described["datatype"], tuple(described["shape"]), data)


def error_of(content: bytes) -> str:
    """The text of a node's error answer, for a person."""
    try:
        return error_text(str(orjson.loads(content)["error"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return error_text(content[:_ERROR_MAX_CHARACTERS].decode(errors="replace"))


def error_text(text: str) -> str:
    """A node's error in one line, without Triton's frame and our runner's stack."""
    # What a person needs is between Triton's own frame and the place in our runner.
    text = _LOAD_FRAME.sub("", text).split("\n\nAt:\n")[0]
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


def octets(text: str) -> np.ndarray[Any, np.dtype[Any]]:
    """One BYTES element, as the document tensor carries it."""
    data = np.empty(1, dtype=np.object_)
    data[0] = text.encode()
    return data
