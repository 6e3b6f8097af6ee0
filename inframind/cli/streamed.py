"""``infra call --stream``: each piece of an answer a line on stdout, the moment that it comes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from inframind.cli import refusal
from inframind.cli.terminal import json_text, out, plain

KIND: Final = "text/event-stream"


@dataclass(frozen=True)
class Told:
    """What came with an answer that was streamed to its end. Times are milliseconds."""

    headers: dict[str, str]
    first_ms: float
    elapsed_ms: float
    pieces: int
    url: str


def run(path: str, body: bytes, headers: dict[str, str], timeout_seconds: float) -> Told:
    """Makes the call and shows its pieces; ``timeout_seconds`` is the longest wait for each.

    Raises Refusal, also for an answer that breaks off after some pieces.
    """
    import httpx

    from inframind.cli.client import CONNECT_TIMEOUT_SECONDS, Server

    with Server() as server:
        timeout = httpx.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        )
        started = time.perf_counter()
        first_ms, pieces = 0.0, 0
        asked = {**headers, "Accept": KIND}
        with server.answer(
            "POST", path, costs=True, content=body, headers=asked, timeout=timeout
        ) as response:
            given = dict(response.headers)
            receipt = given.get("inframind-receipt", "")
            if not given.get("content-type", "").startswith(KIND):
                raise refusal.failed(
                    "unexpected-answer",
                    f"{server.url(path)} did not answer with a stream of events.",
                    "Call it without --stream, or check that INFRA_URL names an InfraMind server.",
                    charged=None,
                )
            for kind, document in _events(_patiently(response.iter_lines(), timeout_seconds)):
                if kind == "message":
                    pieces += 1
                    first_ms = first_ms or (time.perf_counter() - started) * 1000
                    _show(document)
                elif kind == "error" and isinstance(document, dict):
                    octets = json.dumps(document).encode()
                    status = int(document.get("status") or 502)
                    raise refusal.from_answer(status, octets, url=server.url(path), receipt=receipt)
                elif kind == "done" and isinstance(document, dict):
                    fee = document.get("fee")
                    facts = {
                        "Inframind-Model": document.get("model"),
                        "Inframind-Node": document.get("node"),
                        "Inframind-Fee": fee.get("text") if isinstance(fee, dict) else "",
                        "Inframind-Receipt": document.get("receipt"),
                    }
                    told = {name: plain(value or "") for name, value in facts.items()}
                    for name in ("Deprecation", "Sunset", "Link", "Idempotency-Replayed"):
                        if name.lower() in given:
                            told[name] = given[name.lower()]
                    elapsed_ms = (time.perf_counter() - started) * 1000
                    return Told(told, first_ms, elapsed_ms, pieces, server.settings.url)
    raise refusal.failed(
        "connection-broke",
        "The answer broke off before its end. If it was charged, its receipt says so.",
        f"Look at it: infra receipt show {plain(receipt)}" if receipt else "Call again.",
        charged=None,
        retry_safe=None,
    )


def _show(document: Any) -> None:
    out(json_text(document))
    sys.stdout.flush()


def _patiently(lines: Iterable[str], seconds: float) -> Iterator[str]:
    """The lines; comments that only keep the connection open do not count as an answer."""
    heard = time.monotonic()
    for line in lines:
        if line and not line.startswith(":"):
            heard = time.monotonic()
        elif time.monotonic() - heard > seconds:
            raise refusal.failed(
                "no-answer-in-time",
                f"No piece of the answer came within {seconds:g} s.",
                "Give it more with --timeout.",
                charged=None,
                retry_safe=None,
            )
        yield line


def _events(lines: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """(kind, document) of each event; what is not JSON is None."""
    kind, data = "message", ""
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data = f"{data}\n{value}" if data else value
        elif not line and data:
            try:
                document = json.loads(data)
            except ValueError:
                document = None
            yield kind, document
            kind, data = "message", ""
