"""The one place that speaks to a node: Open Inference Protocol v2 and Triton's repository API."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Any, Final
from urllib.parse import quote, urlsplit

import aiohttp
import httpx
import numpy as np
import orjson
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from marketplace.mesh.tensors import NUMPY_TYPES, Tensor

LOOK_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 0.4
# Above this gRPC is asked first: raw bytes there, base64 in JSON here.
HTTP_LOAD_BYTES: Final = 40 << 20
HTTP_LOAD_MAX_BYTES: Final = 1 << 30
_ANSWER_MAX_BYTES: Final = 64 << 20
_ERROR_MAX_CHARACTERS: Final = 400
# A multiple of three, so that base64 pieces join without padding.
_BASE64_PIECE_BYTES: Final = 3 << 18
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


@dataclass(frozen=True)
class File:
    """A file to send with a load: its path in the model's folder and its bytes, in pieces."""

    path: str
    content: Iterator[bytes]


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


def control_is_open(address: Address) -> bool:
    """Whether the repository API answers without the control secret. Raises ``NodeUnreachable``."""
    try:
        answer = httpx.post(f"{address.endpoint}/v2/repository/index", timeout=LOOK_SECONDS)
    except httpx.HTTPError as error:
        raise NodeUnreachable(f"{type(error).__name__}: {error}") from None
    return answer.status_code == 200


def load(
    address: Address,
    triton_model: str,
    *,
    config_json: str,
    files: Sequence[File],
    timeout_seconds: float,
) -> None:
    """Makes the node load a model from bytes sent along; returns once it is loaded.

    The bytes are spooled to disk, never held whole in memory, where they travel by HTTP.
    Raises ``LoadFailed``, ``NodeTimeout``, ``NodeUnreachable``.
    """
    with TemporaryFile() as spool:
        extents: list[tuple[str, int, int]] = []
        for file in files:
            start = spool.tell()
            for piece in file.content:
                spool.write(piece)
            extents.append((file.path, start, spool.tell() - start))
        size_bytes = spool.tell()
        if address.grpc_endpoint and size_bytes > HTTP_LOAD_BYTES:
            _load_over_grpc(address, triton_model, config_json, spool, extents, timeout_seconds)
        elif size_bytes <= HTTP_LOAD_MAX_BYTES:
            _load_over_http(address, triton_model, config_json, spool, extents, timeout_seconds)
        else:
            raise LoadFailed(
                f"The package has {size_bytes >> 20} MiB. Without a gRPC endpoint a node takes at "
                f"most {HTTP_LOAD_MAX_BYTES >> 20} MiB."
            )


def unload(address: Address, triton_model: str, *, timeout_seconds: float = 10.0) -> None:
    """Makes the node drop a model; an unknown one is no error. Raises as ``load`` does."""
    path = f"/v2/repository/models/{quote(triton_model, safe='')}/unload"
    _command(address, path, b"{}", timeout_seconds)


def infer_once(
    address: Address, triton_model: str, tensors: Sequence[Tensor], *, timeout_seconds: float
) -> list[Tensor]:
    """A call outside the event loop, for verification and registration. Raises as ``infer``."""
    body, headers = request_of(tensors)
    try:
        answer = httpx.post(
            address.endpoint + f"/v2/models/{quote(triton_model, safe='')}/infer",
            content=body,
            headers=headers,
            timeout=httpx.Timeout(timeout_seconds, connect=LOOK_SECONDS),
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
        "connector": aiohttp.TCPConnector(limit=0, keepalive_timeout=20, ttl_dns_cache=10),
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
        detail = _error_of(content)
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


def _error_of(content: bytes) -> str:
    try:
        return _error_text(str(orjson.loads(content)["error"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return _error_text(content[:_ERROR_MAX_CHARACTERS].decode(errors="replace"))


def _error_text(text: str) -> str:
    # What a person needs is between Triton's own frame and the place in our runner.
    text = _LOAD_FRAME.sub("", text).split("\n\nAt:\n")[0]
    return " ".join(text.split())[:_ERROR_MAX_CHARACTERS]


def _get(address: Address, path: str) -> httpx.Response:
    try:
        return httpx.get(address.endpoint + path, timeout=LOOK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NodeUnreachable(
            f"{urlsplit(address.endpoint).netloc} does not answer ({type(error).__name__})."
        ) from None


def _look(address: Address, path: str) -> bool:
    try:
        return _get(address, path).status_code == 200
    except NodeUnreachable:
        return False


def _load_over_http(
    address: Address,
    triton_model: str,
    config_json: str,
    spool: IO[bytes],
    extents: Sequence[tuple[str, int, int]],
    timeout_seconds: float,
) -> None:
    head = b'{"parameters":{"config":' + orjson.dumps(config_json)
    heads = [b"," + orjson.dumps(f"file:{path}") + b':"' for path, _, _ in extents]
    length = (
        len(head)
        + 2
        + sum(
            len(each) + 1 + -(-size // 3) * 4
            for each, (_, _, size) in zip(heads, extents, strict=True)
        )
    )

    def body() -> Iterator[bytes]:
        yield head
        for each, (_, start, size) in zip(heads, extents, strict=True):
            yield each
            for piece in _pieces(spool, start, size):
                yield base64.b64encode(piece)
            yield b'"'
        yield b"}}"

    path = f"/v2/repository/models/{quote(triton_model, safe='')}/load"
    _command(address, path, body(), timeout_seconds, {"Content-Length": str(length)})


def _load_over_grpc(
    address: Address,
    triton_model: str,
    config_json: str,
    spool: IO[bytes],
    extents: Sequence[tuple[str, int, int]],
    timeout_seconds: float,
) -> None:
    files = {f"file:{path}": b"".join(_pieces(spool, at, size)) for path, at, size in extents}
    host = address.grpc_endpoint.removeprefix("https://").removeprefix("http://")
    key = f"triton-grpc-protocol-{address.control_header}"
    headers = {key: address.control_secret} if address.control_header else {}
    started = time.monotonic()
    with triton_grpc.InferenceServerClient(
        host, ssl=address.grpc_endpoint.startswith("https://")
    ) as client:
        try:
            client.load_model(
                triton_model,
                headers=headers,
                config=config_json,
                files=files,
                client_timeout=timeout_seconds,
            )
        except InferenceServerException as error:
            if "DEADLINE_EXCEEDED" in str(error.status()):
                raise NodeTimeout(_too_slow(time.monotonic() - started)) from None
            if "UNAVAILABLE" in str(error.status()):
                raise NodeUnreachable(f"{host} does not answer.") from None
            raise LoadFailed(_error_text(str(error.message()))) from None


def _pieces(spool: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    position, end = start, start + size
    while position < end:
        spool.seek(position)
        piece = spool.read(min(_BASE64_PIECE_BYTES, end - position))
        position += len(piece)
        yield piece


def _command(
    address: Address,
    path: str,
    body: bytes | Iterator[bytes],
    timeout_seconds: float,
    headers: dict[str, str] | None = None,
) -> None:
    started = time.monotonic()
    try:
        answer = httpx.post(
            address.endpoint + path,
            content=body,
            headers={**address.headers, **(headers or {})},
            timeout=httpx.Timeout(timeout_seconds, connect=LOOK_SECONDS),
        )
    except httpx.ConnectTimeout:
        raise NodeUnreachable(f"{address.endpoint} does not answer.") from None
    except httpx.TimeoutException:
        raise NodeTimeout(_too_slow(time.monotonic() - started)) from None
    except httpx.HTTPError as error:
        raise NodeUnreachable(f"{type(error).__name__}: {error}") from None
    if answer.status_code in (401, 403):
        raise LoadFailed("The node refuses its control header: the secret does not fit.")
    if answer.status_code != 200:
        raise LoadFailed(_error_of(answer.content))


def _too_slow(seconds: float) -> str:
    return f"The node did not finish within {seconds:.0f} s."


def octets(text: str) -> np.ndarray[Any, np.dtype[Any]]:
    """One BYTES element, as the document tensor carries it."""
    data = np.empty(1, dtype=np.object_)
    data[0] = text.encode()
    return data
