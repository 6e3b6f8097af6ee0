"""An answer in pieces that leaves while the model still works on it.

Once its first piece has left an error is an event and costs nothing, and a caller who goes away
pays. The call's row is durable before the last event leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import orjson
import structlog
from django.conf import settings

from inframind.lib import canonical
from inframind.lib.amounts import amount_document
from inframind.lib.problem import Problem
from marketplace.catalog.schemas import validator_for
from marketplace.gateway import body, contract, events, inference, pipeline, problems
from marketplace.gateway.context import Context, Outcome
from marketplace.gateway.models import Call
from marketplace.mesh import client, streams
from marketplace.mesh.asyncdb import in_thread
from marketplace.mesh.load import LOST
from marketplace.mesh.routing import Copy, Route
from marketplace.mesh.sockets import SILENCE_SECONDS
from marketplace.mesh.tensors import BadOutput

log = structlog.get_logger(__name__)

WAITING_SECONDS: Final = 10.0
_PIECE: Final = "A piece of the model's answer"
_GONE_STATUS: Final = 499  # nobody sees it, but for the answer that is kept under a key


class _Piece(NamedTuple):
    document: bytes
    canonical: bytes


class Answering(AsyncIterator[bytes]):
    """A streaming model's answer: begun as a stage, then the events of its pieces and of its end.

    No generator, because one that was never asked for its first piece would end without a word.
    ``aclose`` ends it where its reader has gone.
    """

    def __init__(self, context: Context, *, gathers: bool = False) -> None:
        self.context = context
        self.pieces: list[bytes] = []  # where they are kept
        self.problem: Problem | None = None
        self.recorded = False
        self.under_way = False
        self._gathers = gathers
        self._count = 0
        self._digest = hashlib.sha256(b"[")  # of the array of the pieces, in its canonical form
        self._node: streams.Pieces | None = None
        self._copy: Copy | None = None  # a place there is taken until the answer ends
        self._first_seconds = 0.0
        self._strike = 0.0
        self._opening = b""  # the first piece as the node gave it
        self._first: _Piece | None = None
        self._taking: asyncio.Task[_Piece | None] | None = None
        self._reading = False
        self._over = False
        self._ending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def begin(self, call: Context) -> None:
        """The stage that runs the model until its first piece is there, and sound. 413, 422, 502,
        503, 504."""
        await contract.read_input(call)
        call.outcome = Outcome.NO_NODE
        await inference.on_a_node(call, self._attempt)
        call.outcome = Outcome.INVALID_OUTPUT
        self._first = await self._checked(self._opening)
        call.answer_headers = dict(events.HEADERS)

    def go(self) -> None:
        """From here on the answer is the reader's, who has so long to take it."""
        self.under_way = True
        left_seconds = max(0.0, settings.STREAM_DEADLINE_SECONDS - self.context.elapsed)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(left_seconds, self._out_of_time)

    async def conclude(self, outcome: Call.Outcome, problem: Problem | None) -> None:
        """Ends the call on its node, writes its row and settles what was set aside. Only once;
        ``problem`` and ``recorded`` then say what came of it."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._conclude(outcome, problem))
        # What a call leaves behind is written down, whoever stops waiting for it.
        await asyncio.shield(self._ending)

    async def aclose(self) -> None:
        """The reader has gone: what was begun is cancelled, and paid for if a piece had left."""
        outcome = Outcome.SERVED if self._count else Outcome.REFUSED
        await self.conclude(outcome, cancelled(charged=self._count > 0))
        self._over = True

    def __aiter__(self) -> Answering:
        return self

    async def __anext__(self) -> bytes:
        """The next event. Cancelled while it waits, it ends the call as ``aclose`` does."""
        if self._over:
            raise StopAsyncIteration
        self._reading = True
        try:
            return await self._event()
        except asyncio.CancelledError:
            await self.aclose()
            raise
        finally:
            self._reading = False

    async def _event(self) -> bytes:
        if self._ending is not None:
            await asyncio.shield(self._ending)
            return self._last()
        piece, self._first = self._first, None
        if piece is None:
            if self._taking is None:
                self._taking = asyncio.ensure_future(self._next_piece())
            done, _ = await asyncio.wait({self._taking}, timeout=WAITING_SECONDS)
            if not done:
                return events.WAITING
            taken, self._taking = self._taking, None
            try:
                piece = taken.result()
            except Exception as error:
                await self.conclude(*self._failure(error))
                return self._last()
        if piece is None:
            await self.conclude(Outcome.SERVED, None)
            return self._last()
        self._digest.update(b"," + piece.canonical if self._count else piece.canonical)
        self._count += 1
        if self._gathers or self.context.claim is not None:
            self.pieces.append(piece.document)
        return events.piece(piece.document)

    def _last(self) -> bytes:
        self._over = True
        return self._done() if self.problem is None else self._error(self.problem)

    def _done(self) -> bytes:
        call, version = self.context, self.context.version
        return events.done(
            {
                "model": f"{version.name}@{version.number}",
                "receipt": str(call.request.call_id),
                "fee": amount_document(version.fee_base_units),
                "node": call.route.node_name if call.route else "",
                "pieces": self._count,
            }
        )

    def _error(self, problem: Problem) -> bytes:
        return events.error(problem, f"urn:uuid:{self.context.request.call_id}")

    async def _conclude(self, outcome: Call.Outcome, problem: Problem | None) -> None:
        call = self.context
        if self._timer is not None:
            self._timer.cancel()
        if self._taking is not None:
            self._taking.cancel()
        if self._node is not None:
            self._node.end()
        if self._copy is not None:
            router = call.resources.router
            if outcome is Outcome.SERVED:
                router.served(self._copy, self._first_seconds)
            else:
                router.gave_up(self._copy, strike=self._strike, reason="A stream broke off.")
        call.outcome = outcome
        if self._count:
            self._digest.update(b"]")
            call.output_digest = f"sha256:{self._digest.hexdigest()}"
            if outcome is Outcome.SERVED and call.claim is not None:
                last = self._done() if problem is None else self._error(problem)
                call.output = b"".join([*map(events.piece, self.pieces), last])
        self.problem, self.recorded = await pipeline.conclude(call, problem)

    def _out_of_time(self) -> None:
        # Where a piece is waited for, the node's own deadline ends the call.
        if self._ending is None and not self._reading:
            outcome = Outcome.SERVED if self._count else Outcome.REFUSED
            problem = cancelled(charged=self._count > 0)
            self._ending = asyncio.ensure_future(self._conclude(outcome, problem))

    async def _attempt(self, call: Context, copy: Copy, connect_seconds: float) -> None:
        """Has a node begin the answer, and waits for its first piece. Raises ``NodeError``."""
        route = copy.route
        if not route.grpc_endpoint:
            raise client.NodeUnreachable("The node has no gRPC address.")
        started = time.perf_counter()
        node = await call.resources.channels.begin(
            route.grpc_endpoint,
            route.triton_model,
            call.request.body,
            timeout_seconds=max(0.01, settings.STREAM_DEADLINE_SECONDS - call.elapsed),
            connect_seconds=connect_seconds,
        )
        try:
            document = await self._take(node, route, call.remaining)
            if document is None:
                raise client.ModelFailed("The answer ended without a piece.")
        except BaseException:
            node.end()
            raise
        self._first_seconds = time.perf_counter() - started
        self._node, self._copy, self._opening = node, copy, document
        call.route, call.node_seconds = route, self._first_seconds

    async def _next_piece(self) -> _Piece | None:
        node, route = self._node, self.context.route
        if node is None or route is None:
            raise RuntimeError("No node has begun the answer.")
        started = time.perf_counter()
        document = await self._take(node, route, settings.CALL_DEADLINE_SECONDS)
        self.context.node_seconds += time.perf_counter() - started
        return None if document is None else await self._checked(document)

    async def _take(self, node: streams.Pieces, route: Route, seconds: float) -> bytes | None:
        """The next piece; a silent node is asked now and then whether it lives."""
        until = time.monotonic() + seconds
        taking = asyncio.ensure_future(node.take())
        try:
            silent = 0
            while True:
                left_seconds = until - time.monotonic()
                patience_seconds = max(0.0, min(SILENCE_SECONDS, left_seconds))
                if (await asyncio.wait({taking}, timeout=patience_seconds))[0]:
                    return taking.result()
                if left_seconds <= SILENCE_SECONDS:
                    raise client.NodeTimeout(f"No piece within {seconds:g} s.")
                nodes = self.context.resources.nodes
                silent = 0 if await client.answers_at_all(nodes, route.endpoint) else silent + 1
                if silent == 2 and not taking.done():
                    raise client.ConnectionLost("The node went silent.")
        finally:
            taking.cancel()

    async def _checked(self, document: bytes) -> _Piece:
        if len(document) > body.HEAVY_BYTES:
            return await in_thread(self._check, document)
        return self._check(document)

    def _check(self, text: bytes) -> _Piece:
        version = self.context.version
        try:
            document = streams.document_of(text)
            canonical_form = canonical.canonical_json(document)
        except (BadOutput, ValueError, TypeError) as error:
            raise problems.invalid_output(str(error), what=_PIECE) from None
        validator = validator_for(f"{version.cid}/output", version.output_schema)
        violations = validator.violations(document)
        if violations:
            raise problems.invalid_output(
                "It breaks the model's output schema.", violations, what=_PIECE
            )
        return _Piece(orjson.dumps(document), canonical_form)

    def _failure(self, error: Exception) -> tuple[Call.Outcome, Problem]:
        """How a call ends whose node, or model, failed when a piece had left."""
        call = self.context
        match error:
            case Problem():
                return Outcome.INVALID_OUTPUT, error
            case client.NodeTimeout():
                self._strike = LOST
                return Outcome.TIMED_OUT, Problem(
                    "timed-out",
                    f"The answer did not go on in time. {error}",
                    status=504,
                    remedy="Send a smaller input, or try again later.",
                    retry_safe=True,
                )
            case client.ModelFailed():
                return Outcome.MODEL_FAILED, problems.model_failed(str(error))
            case client.NodeError():
                self._strike = LOST
                if call.route is not None:
                    call.missed.append(call.route.node_id)
                return Outcome.NO_NODE, Problem(
                    "stream-broken",
                    "The node was lost in the middle of the answer.",
                    status=502,
                    remedy="Try again: another node may serve the call.",
                    retry_safe=True,
                )
        log.error("call broke", call=str(call.request.call_id), exc_info=error)
        return Outcome.REFUSED, problems.broken()


def cancelled(*, charged: bool) -> Problem:
    """What is told of a call whose caller went away."""
    return Problem(
        "cancelled",
        "The caller went away, or took too long to read, before the answer's end. "
        + ("Pieces had left, so it was charged." if charged else "Nothing was charged."),
        status=_GONE_STATUS,
        title="Cancelled by the caller",
        remedy="Call again, with a new Idempotency-Key if you send one.",
        retry_safe=not charged,
        charged=charged,
    )
