"""Server-Sent Events: how an answer in pieces is written down for a caller."""

from __future__ import annotations

from typing import Any, Final

import orjson

from inframind.lib.problem import Problem

KIND: Final = "text/event-stream"
HEADERS: Final = {
    "Content-Type": KIND,
    "Cache-Control": "no-store",
    # Nginx would gather the pieces.
    "X-Accel-Buffering": "no",
}
# Keeps proxies from closing a connection on which nothing comes, and shows who has gone.
WAITING: Final = b": waiting\n\n"


def asked_for(accept: str) -> bool:
    """Whether an ``Accept`` header names the event stream; ``*/*`` does not."""
    if "event-stream" not in accept.lower():
        return False
    for part in accept.split(","):
        kind, *parameters = (each.strip().lower() for each in part.split(";"))
        if kind == KIND:
            return not any(_is_zero(each) for each in parameters)
    return False


def piece(document: bytes) -> bytes:
    """The event of one document, whose JSON has no line breaks."""
    return b"data: %b\n\n" % document


def done(facts: dict[str, Any]) -> bytes:
    """The last event of an answer that was served whole."""
    return b"event: done\ndata: %b\n\n" % orjson.dumps(facts)


def error(problem: Problem, instance: str) -> bytes:
    """The last event of an answer that broke off."""
    return b"event: error\ndata: %b\n\n" % orjson.dumps(problem.as_document(instance=instance))


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().strip("0") in ("", ".") and value.strip() != ""
