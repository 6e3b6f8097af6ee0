"""A call as it goes through the stages: what it came with, and what is known of it so far."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from inframind.identity.caller import Caller
from marketplace.catalog.queries import Servable
from marketplace.catalog.tensorspec import TensorSpec
from marketplace.gateway import limits
from marketplace.gateway.keyed import Claim, StoredAnswer
from marketplace.gateway.models import Call
from marketplace.gateway.oip import Wish
from marketplace.gateway.purses import Funds
from marketplace.gateway.resources import Resources
from marketplace.mesh.client import Incoming, Outgoing
from marketplace.mesh.routing import Route
from marketplace.mesh.tensors import DocumentSpec, document_specs

Outcome: Final = Call.Outcome


@dataclass(eq=False)
class CallRequest:
    """A call as a front hands it over.

    ``bearer`` is the token that came with it, unchecked; ``caller`` is for fronts that know who
    calls without one. Neither means anonymous.
    """

    call_id: UUID
    name: str
    number: str | None
    body: bytes = field(repr=False)
    budget_base_units: int | None
    remote_address: str
    deadline_seconds: float
    bearer: str | None = field(default=None, repr=False)
    caller: Caller | None = None
    idempotency_key: str | None = field(default=None, repr=False)  # as it came, unchecked
    streamed: bool = False  # its caller takes an answer in pieces
    tensors: bool = False  # the Open Inference Protocol's contract, not the JSON documents'
    header_length: str | None = None  # of its JSON header, as it came, unchecked

    @property
    def asked(self) -> str:
        """What the body was for: no two contracts have it in common."""
        return f"v2 {self.header_length} {self.reference}" if self.tensors else self.reference

    @property
    def reference(self) -> str:
        """The model as it was asked for."""
        return f"{self.name}@{self.number}" if self.number else self.name


@dataclass(init=False, eq=False)
class Context:
    """What is known of one call so far.

    Of its fields a call sets some: the others stay the class's defaults.
    """

    request: CallRequest
    resources: Resources
    started: float  # of the performance counter
    missed: list[UUID]  # nodes that did not answer it
    answer_headers: dict[str, str]  # beside what is told of the call
    caller: Caller | None = None
    rules: limits.Rules | None = None  # what the call is counted by, once the caller is known
    subjects: tuple[str, ...] = ()
    counting: asyncio.Future[limits.Allowance] | None = None
    allowance: limits.Allowance | None = None  # what came of that, once it was asked for
    servable: Servable | None = None
    document: Any = None
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None
    output: bytes = b""
    input_digest: str = ""
    output_digest: str = ""
    route: Route | None = None
    attempts: int = 0
    admitted_seconds: float = 0.0
    node_seconds: float = 0.0
    latency_us: int = 0
    outcome: Call.Outcome = Outcome.REFUSED
    held: bool = False
    funds: Funds | None = None
    claim: Claim | None = None
    replayed: StoredAnswer | None = None  # ends the call: it was served before
    wish: Wish | None = None  # with tensors: what was asked of the answer
    digesting: asyncio.Future[str] | None = None  # the input's digest, while others work

    def __init__(self, request: CallRequest, resources: Resources) -> None:
        self.request = request
        self.resources = resources
        self.started = time.perf_counter()
        self.missed = []
        self.answer_headers = {}

    @property
    def version(self) -> Servable:
        """The version called; only after ``resolve``."""
        if self.servable is None:
            raise RuntimeError("The call has not been resolved yet.")
        return self.servable

    @property
    def elapsed(self) -> float:
        """Seconds since the call came in."""
        return time.perf_counter() - self.started

    @property
    def remaining(self) -> float:
        """Seconds until the deadline, never below a hundredth."""
        return max(0.01, self.request.deadline_seconds - self.elapsed)

    @property
    def lasts_seconds(self) -> float:
        """How long it may take until its last piece; only after ``resolve``."""
        if self.version.streaming:
            return float(settings.STREAM_DEADLINE_SECONDS)
        return self.request.deadline_seconds

    @property
    def viewer(self) -> str | None:
        return self.caller.address if self.caller else None

    @property
    def inputs(self) -> tuple[TensorSpec, ...] | tuple[DocumentSpec, ...]:
        tensors = self.version.tensors
        return tensors.inputs if tensors else document_specs()

    @property
    def outputs(self) -> tuple[TensorSpec, ...] | tuple[DocumentSpec, ...]:
        tensors = self.version.tensors
        return tensors.outputs if tensors else document_specs()
