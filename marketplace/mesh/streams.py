"""Answers that come in pieces: Triton's decoupled models, over its gRPC stream."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
import orjson
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc as services

from marketplace.mesh.asyncdb import in_thread
from marketplace.mesh.client import (
    Address,
    ConnectionLost,
    ModelCrashed,
    ModelFailed,
    NodeError,
    NodeTimeout,
    NodeUnreachable,
    NotConnected,
    NotLoaded,
    error_text,
)
from marketplace.mesh.grpcaddress import Target, target_of
from marketplace.mesh.tensors import BadOutput

# All pieces of an answer together. Each counts for at least so much: many small ones cost as well.
ANSWER_MAX_BYTES: Final = 64 << 20
PIECE_MIN_BYTES: Final = 1 << 10
_ADDRESS_FRESH_SECONDS: Final = 10.0
_OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_receive_message_length", ANSWER_MAX_BYTES),
    ("grpc.max_send_message_length", ANSWER_MAX_BYTES),
    # A node that comes back must not be waited for longer than the router lets it rest.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_GONE: Final = "Request for unknown model"
_UNREADY: Final = "is not ready"
_CRASHED: Final = "Stub process"


@dataclass(eq=False)
class _Channel:
    target: Target
    channel: grpc.aio.Channel
    fresh_until: float
    streams: int = 0
    replaced: bool = False


@dataclass(eq=False)
class Channels:
    """Connections of one event loop to the gRPC side of nodes."""

    _open: dict[str, _Channel] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(
        self,
        grpc_endpoint: str,
        triton_model: str,
        document: bytes,
        *,
        timeout_seconds: float,
        connect_seconds: float,
    ) -> Pieces:
        """Asks the model for the document's answer, which may take so long in all.

        Raises ``NodeUnreachable``, ``NotConnected`` where no connection is made.
        """
        found = await self._channel(grpc_endpoint)
        found.streams += 1
        try:
            await _connected(found.channel, connect_seconds)
            stub = services.GRPCInferenceServiceStub(found.channel)
            call = stub.ModelStreamInfer(
                iter([_request(triton_model, document)]), timeout=timeout_seconds
            )
        except BaseException:
            self._ended(found)
            raise
        return Pieces(self, found, call)

    async def aclose(self) -> None:
        """Closes every connection and what still runs on it."""
        channels, self._open = list(self._open.values()), {}
        await asyncio.gather(*(each.channel.close() for each in channels), *self._closing)

    async def _channel(self, grpc_endpoint: str) -> _Channel:
        found = self._open.get(grpc_endpoint)
        now = time.monotonic()
        if found is not None and found.fresh_until > now:
            return found
        target = await in_thread(target_of, grpc_endpoint)
        # Another call may have been here meanwhile.
        found = self._open.get(grpc_endpoint)
        if found is not None and found.target == target:
            found.fresh_until = now + _ADDRESS_FRESH_SECONDS
            return found
        if found is not None:
            found.replaced = True
            self._close_unused(found)
        options = [*_OPTIONS, *target.options]
        if target.encrypted:
            credentials = grpc.ssl_channel_credentials()
            channel = grpc.aio.secure_channel(target.address, credentials, options)
        else:
            channel = grpc.aio.insecure_channel(target.address, options)
        made = _Channel(target, channel, now + _ADDRESS_FRESH_SECONDS)
        self._open[grpc_endpoint] = made
        return made

    def _ended(self, channel: _Channel) -> None:
        channel.streams -= 1
        self._close_unused(channel)

    def _close_unused(self, channel: _Channel) -> None:
        if channel.replaced and not channel.streams:
            task = asyncio.get_running_loop().create_task(channel.channel.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


@dataclass(eq=False)
class Pieces:
    """One answer under way. ``end`` it, whatever came of it."""

    _channels: Channels
    _channel: _Channel
    _call: Any
    _taken_bytes: int = 0
    _ended: bool = False

    async def take(self) -> bytes | None:
        """The next piece's JSON text, None after the last one.

        Cancelled while it waits, it cancels the whole answer on the node. Raises
        ``ConnectionLost``, ``NodeUnreachable``, ``NodeTimeout``, ``NotLoaded``, ``ModelFailed``.
        """
        while True:
            try:
                answer = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise _node_error(error.code(), error.details() or "") from None
            if answer is grpc.aio.EOF:
                code = await self._call.code()
                if code is grpc.StatusCode.OK:
                    raise ConnectionLost("The node ended the stream before the answer's end.")
                raise _node_error(code, await self._call.details() or "")
            piece, final = _read(answer)
            if piece is not None:
                self._taken_bytes += max(len(piece), PIECE_MIN_BYTES)
                if self._taken_bytes > ANSWER_MAX_BYTES:
                    raise ModelFailed(f"The pieces are more than {ANSWER_MAX_BYTES >> 20} MiB.")
                return piece
            if final:
                return None

    def end(self) -> None:
        """Ends the answer on the node, where it has not ended. Safe to call again."""
        if not self._ended:
            self._ended = True
            self._call.cancel()
            self._channels._ended(self._channel)


def document_of(piece: bytes) -> Any:
    """The document that a piece is. Raises ``BadOutput``."""
    try:
        return orjson.loads(piece)
    except orjson.JSONDecodeError as error:
        raise BadOutput(f"A piece is not JSON: {error}.") from None


def pieces_once(
    address: Address, triton_model: str, document: bytes, *, timeout_seconds: float
) -> list[bytes]:
    """A whole answer outside the event loop, for verification. Raises as ``Pieces.take``."""
    target = target_of(address.grpc_endpoint)
    options = [*_OPTIONS, *target.options]
    if target.encrypted:
        channel = grpc.secure_channel(target.address, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.insecure_channel(target.address, options)
    found: list[bytes] = []
    taken_bytes = 0
    with channel:
        call = services.GRPCInferenceServiceStub(channel).ModelStreamInfer(
            iter([_request(triton_model, document)]), timeout=timeout_seconds
        )
        try:
            for answer in call:
                piece, final = _read(answer)
                if piece is not None:
                    found.append(piece)
                    taken_bytes += max(len(piece), PIECE_MIN_BYTES)
                    if taken_bytes > ANSWER_MAX_BYTES:
                        raise ModelFailed(f"The pieces are more than {ANSWER_MAX_BYTES >> 20} MiB.")
                elif final:
                    return found
        except grpc.RpcError as error:
            raise _node_error(error.code(), error.details() or "") from None
        finally:
            call.cancel()
    raise ConnectionLost("The node ended the stream before the answer's end.")


async def _connected(channel: grpc.aio.Channel, seconds: float) -> None:
    if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
        return
    try:
        async with asyncio.timeout(seconds):
            await channel.channel_ready()
    except TimeoutError:
        raise NotConnected("No gRPC connection.") from None


def _request(triton_model: str, document: bytes) -> Any:
    request = messages.ModelInferRequest(model_name=triton_model)
    tensor = request.inputs.add(name="document", datatype="BYTES")
    tensor.shape.append(1)
    request.raw_input_contents.append(struct.pack("<I", len(document)) + document)
    # Else the end of an answer could not be told from the end of its connection.
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def _read(answer: Any) -> tuple[bytes | None, bool]:
    """(the piece's text where there is one, whether the answer ends here)"""
    if answer.error_message:
        raise _model_error(answer.error_message)
    response = answer.infer_response
    final = response.parameters["triton_final_response"].bool_param
    if not response.outputs:
        return None, final
    contents = response.raw_output_contents
    (output,) = response.outputs if len(response.outputs) == 1 else (None,)
    if output is None or output.datatype != "BYTES" or len(contents) != 1 or len(contents[0]) < 4:
        raise ModelFailed("The node's answer cannot be read: it is not one document.")
    (size,) = struct.unpack_from("<I", contents[0])
    if size != len(contents[0]) - 4:
        raise ModelFailed("The node's answer cannot be read: its length is wrong.")
    return contents[0][4:], final


def _model_error(message: str) -> NodeError:
    detail = error_text(message)
    if _GONE in detail or _UNREADY in detail:
        return NotLoaded(detail)
    return ModelCrashed(detail) if _CRASHED in detail else ModelFailed(detail)


def _node_error(code: grpc.StatusCode, details: str) -> NodeError:
    detail = error_text(details) or code.name
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return NodeTimeout("The answer did not end in time.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ModelFailed(f"A piece cannot be carried: {detail}")
        case grpc.StatusCode.NOT_FOUND:
            return NotLoaded(detail)
        case grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.UNAUTHENTICATED:
            return NodeUnreachable(detail)
        case _:
            return ConnectionLost(f"{code.name}: {detail}")
