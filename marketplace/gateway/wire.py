"""What both fronts hand to the gateway's handlers and get back: HTTP without a framework.

A handler is one ``async`` function for one address. The ASGI front awaits it on its own loop, the
REST framework's views from a thread: what a caller sees is decided by the handler alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from inframind.identity.caller import Caller
from inframind.lib.problem import Problem

PROBLEM_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, its body read whole. ``headers`` by their names in lower case.

    ``caller`` is for fronts that know who calls without a token.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    remote_address: str = ""
    caller: Caller | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. A body that is an iterator is sent piece by piece, as the pieces come; the
    front closes the iterator when its reader has gone."""

    status: int
    body: bytes | AsyncIterator[bytes] = field(repr=False)
    headers: dict[str, str]


Handler = Callable[[Request, str], Awaitable[Answer]]
"""Of a request and the model's reference (``name`` or ``name@version``) in its address.

Raises a ``Problem`` for what it refuses.
"""


def problem_answer(problem: Problem, call_id: UUID | None = None) -> Answer:
    """The refusal as a document; ``call_id``: the call that it ended."""
    document = problem.as_document(instance=f"urn:uuid:{call_id}" if call_id else "")
    headers = {**problem.headers, "Content-Type": PROBLEM_TYPE}
    return Answer(problem.status, orjson.dumps(document), headers)
