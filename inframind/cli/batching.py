"""``infra call --batch``: many documents in one request, one result a line."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final

from inframind.cli import document, refusal
from inframind.cli.terminal import err, err_json, json_text, out, plain, styled

_SHOWN: Final = 5


def read(source: str) -> bytes:
    """The array of documents in a file, or in stdin for ``-``: a JSON array, or one document a
    line. Raises Refusal (exit 2) for what is neither."""
    what = "stdin" if source == "-" else source
    data = document.read_bytes(source, "--batch")
    lines = [line for line in data.splitlines() if line.strip()]
    if not lines or data.split() in ([b"[]"], [b"[", b"]"]):
        raise refusal.usage(f"{what} has no documents.", "Write a JSON array, or one a line.")
    if data.lstrip()[:1] == b"[":
        return document.checked(data, what)
    checked = [
        document.checked(line, f"{what}, document {number}") for number, line in enumerate(lines, 1)
    ]
    return b"[" + b",".join(checked) + b"]"


def run(
    path: str, body: bytes, headers: dict[str, str], timeout_seconds: float, *, json_output: bool
) -> int:
    """Sends the batch; a result a line on stdout, what it was and cost on stderr.

    Returns the exit status: 1 where an input was not served. Raises Refusal.
    """
    import httpx

    from inframind.cli.client import CONNECT_TIMEOUT_SECONDS, Server

    with Server() as server:
        timeout = httpx.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        )
        started = time.perf_counter()
        _, answer = server.exchange(
            "POST", path, costs=True, content=body, headers=headers, timeout=timeout
        )
        elapsed_ms = (time.perf_counter() - started) * 1000
    results = answer.get("results")
    if not isinstance(results, list):
        raise refusal.failed(
            "unexpected-answer",
            f"{server.url(path)} did not answer with results.",
            "Check that INFRA_URL names an InfraMind server.",
            charged=None,
        )
    for result in results:
        out(json_text(result))
    sys.stdout.flush()
    _show_facts(answer, results, elapsed_ms, json_output=json_output)
    return 0 if answer.get("served") == len(results) else refusal.EXIT_FAILED


def _show_facts(
    answer: dict[str, Any], results: list[Any], elapsed_ms: float, *, json_output: bool
) -> None:
    facts = {
        "model": answer.get("model", ""),
        "inputs": len(results),
        "served": answer.get("served", 0),
        "fee": (answer.get("fee") or {}).get("text", ""),
        "latency_ms": round(elapsed_ms, 1),
    }
    if json_output:
        err_json(facts)
        return
    failed = [
        (number, result.get("problem") or {})
        for number, result in enumerate(results, 1)
        if result.get("status") != 200
    ]
    for number, problem in failed[:_SHOWN]:
        detail = plain(json.dumps(problem) if "detail" not in problem else problem["detail"])
        err(f"{styled('Not served:', 'yellow')} input {number}: {detail}")
        for line in refusal.violations(problem):
            err(line)
    if len(failed) > _SHOWN:
        err(f"… and {len(failed) - _SHOWN} more")
    words = (
        plain(facts["model"]),
        f"{facts['served']} of {facts['inputs']} served",
        f"fee {plain(facts['fee'])}",
        f"{elapsed_ms:.0f} ms",
    )
    err(styled(" · ".join(words), "dim"))
