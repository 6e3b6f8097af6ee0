"""Commanding a node over Triton's repository API: loading and unloading models."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any, Final
from urllib.parse import quote

import httpx
import orjson
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from marketplace.mesh import transport
from marketplace.mesh.client import (
    LOOK_SECONDS,
    Address,
    LoadFailed,
    NodeTimeout,
    NodeUnreachable,
    error_of,
    error_text,
)
from marketplace.mesh.grpcaddress import target_of

# Above this gRPC is asked first: raw bytes there, base64 in JSON here.
HTTP_LOAD_BYTES: Final = 40 << 20
HTTP_LOAD_MAX_BYTES: Final = 1 << 30
_MESSAGE_MAX_BYTES: Final = (1 << 31) - 1
# A multiple of three, so that base64 pieces join without padding.
_BASE64_PIECE_BYTES: Final = 3 << 18


@dataclass(frozen=True)
class File:
    """A file to send with a load: its path in the model's folder and its bytes, in pieces."""

    path: str
    content: Iterator[bytes]


def control_is_open(address: Address) -> bool:
    """Whether the repository API answers without the control secret. Raises ``NodeUnreachable``."""
    try:
        answer = transport.request(
            "POST", f"{address.endpoint}/v2/repository/index", timeout_seconds=LOOK_SECONDS
        )
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
    target = target_of(address.grpc_endpoint)
    # Given options replace tritonclient's own, the sizes among them.
    options: list[tuple[str, Any]] = [
        (f"grpc.max_{way}_message_length", _MESSAGE_MAX_BYTES) for way in ("send", "receive")
    ]
    options.extend(target.options)
    key = f"triton-grpc-protocol-{address.control_header}"
    headers = {key: address.control_secret} if address.control_header else {}
    started = time.monotonic()
    with triton_grpc.InferenceServerClient(
        target.address, ssl=target.encrypted, channel_args=options
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
                raise NodeUnreachable(f"{address.grpc_endpoint} does not answer.") from None
            raise LoadFailed(error_text(str(error.message()))) from None


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
        answer = transport.request(
            "POST",
            address.endpoint + path,
            content=body,
            headers={**address.headers, **(headers or {})},
            timeout_seconds=timeout_seconds,
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
        raise LoadFailed(error_of(answer.content))


def _too_slow(seconds: float) -> str:
    return f"The node did not finish within {seconds:.0f} s."
