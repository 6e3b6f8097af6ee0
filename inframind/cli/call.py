"""``infra call``: one inference, the answer on stdout, what it was and cost on stderr."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from inframind.cli import batching, completion, document, options, refusal, streamed
from inframind.cli.terminal import err, err_json, json_text, out, plain, styled, watched
from inframind.lib.amounts import format_ifm, parse_ifm

_MODEL_REFERENCE: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:@\d+(?:\.\d+)+)?")
_IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
_DURATION: Final = re.compile(r"(?:^|,)\s*total\s*(?:;[^,]*)?;\s*dur=([0-9.]+)")


def call(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=TEXT|KEY:=JSON|KEY@FILE",
            help="Properties of the input document: text, a JSON value, a file's bytes as base64, "
            "or KEY=@FILE for a file's text.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME[@VERSION]",
            help="The model.",
            show_default=False,
            autocompletion=completion.model_names,
        ),
    ] = "",
    version: options.VersionOption = "",
    input_file: Annotated[
        str,
        typer.Option(
            "--input", metavar="FILE", help="A JSON file, or - for stdin.", show_default=False
        ),
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="JSON", help="The document as JSON text.", show_default=False
        ),
    ] = "",
    batch_file: Annotated[
        str,
        typer.Option(
            "--batch",
            metavar="FILE",
            help="Many documents, each a call: a JSON array, or one a line; - for stdin.",
            show_default=False,
        ),
    ] = "",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Show the answer piece by piece, one JSON document a line, as it comes.",
        ),
    ] = False,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            metavar="AMOUNT",
            help="Refuse the call if it costs more, like 2.5IFM.",
            show_default=False,
        ),
    ] = "",
    timeout_seconds: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.1, help="How long to wait for the answer."
        ),
    ] = 60.0,
    idempotency_key: Annotated[
        str,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="A repeat with the same key runs and costs once.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Call a model. The answer goes to stdout; model, node, fee and receipt to stderr.

    With --json, stderr carries one JSON object: model, node, fee, latency_ms, server_ms, receipt.
    With --batch, stdout has one result a line, in the order of the inputs. With --stream, one
    piece a line; --timeout is then the wait for each.

    \b
    Examples:
      infra call --model summarizer-v1 --input test.json --budget 2.5IFM
      infra call --model summarizer-v1 text=@article.txt sentences:=2
      infra call --model filetype-v1 content@photo.jpg
      echo '{"text": "…"}' | infra call --model language-id-v1 --input -
      infra call --model language-id-v1 --batch texts.jsonl
      infra call --model storyteller-v1 --stream prompt="Once upon a time"
    """
    properties = list(pairs or [])
    if not model and properties and _MODEL_REFERENCE.fullmatch(properties[0]):
        raise refusal.usage(
            f"{properties[0]!r} is not a property of the input.",
            f"A model is named so: infra call --model {properties[0]}",
        )
    name, number = options.model_and_version("", model, version)
    headers = {"Content-Type": "application/json"}
    if budget:
        # `--budget 2.5 IFM` without quotes leaves the unit among the properties.
        properties = [each for each in properties if each.upper() != "IFM"]
        headers["Inframind-Budget"] = _budget(budget)
    if idempotency_key:
        if _IDEMPOTENCY_KEY.fullmatch(idempotency_key) is None:
            raise refusal.usage(
                "An idempotency key is 1 to 255 visible ASCII characters.", "A UUID is a good one."
            )
        headers["Idempotency-Key"] = idempotency_key
    if stream and batch_file:
        raise refusal.usage(
            "--stream and --batch do not go together.", "Stream one document at a time."
        )
    body = _body(properties, input_file, data, batch_file, no_input=no_input)
    path = f"/inference/v1/{quote(name, safe='')}" + (
        f"@{quote(number, safe='')}" if number else ""
    )
    if stream:
        _stream(path, body, headers, timeout_seconds, json_output=json_output)
        return
    if batch_file:
        path = f"{path}/batch"
        raise typer.Exit(
            batching.run(path, body, headers, timeout_seconds, json_output=json_output)
        )
    _run(path, body, headers, timeout_seconds, json_output=json_output)


def _run(
    path: str, body: bytes, headers: dict[str, str], timeout_seconds: float, *, json_output: bool
) -> None:
    import httpx

    from inframind.cli.client import CONNECT_TIMEOUT_SECONDS, Server

    with Server() as server:
        timeout = httpx.Timeout(
            timeout_seconds, connect=min(CONNECT_TIMEOUT_SECONDS, timeout_seconds)
        )
        started = time.perf_counter()
        with server.answer(
            "POST", path, costs=True, content=body, headers=headers, timeout=timeout
        ) as response:
            answer = response.read()
            elapsed_ms = (time.perf_counter() - started) * 1000
            facts = _facts(response.headers, elapsed_ms)
            _show_answer(answer, json_output=json_output)
            if json_output:
                err_json(facts)
            else:
                _show_facts(facts, server.settings.url)


def _stream(
    path: str, body: bytes, headers: dict[str, str], timeout_seconds: float, *, json_output: bool
) -> None:
    told = streamed.run(path, body, headers, timeout_seconds)
    facts = _facts(told.headers, told.elapsed_ms)
    facts |= {"first_ms": round(told.first_ms, 1), "pieces": told.pieces}
    if json_output:
        err_json(facts)
    else:
        _show_facts(facts, told.url)


def _body(
    properties: list[str], input_file: str, data: str, batch_file: str, *, no_input: bool
) -> bytes:
    given = [bool(properties), bool(input_file), bool(data), bool(batch_file)]
    if sum(given) > 1:
        raise refusal.usage(
            "The input document is given in two ways.",
            "Use one of --input, --data, --batch and KEY=TEXT pairs.",
        )
    if "-" in (input_file, batch_file) and no_input and sys.stdin.isatty():
        option = "--input" if input_file else "--batch"
        raise refusal.usage(f"{option} - would ask you to type, and --no-input forbids it.")
    if batch_file:
        return batching.read(batch_file)
    if input_file:
        return document.read_input(input_file)
    if data:
        return document.checked(data.encode("utf-8", "surrogateescape"), "--data")
    if properties:
        return document.from_pairs(properties)
    raise refusal.usage(
        "There is no input document.",
        "Give --input FILE, --data JSON, or pairs like text=hello. `infra model show` tells what "
        "the model takes.",
    )


def _budget(text: str) -> str:
    try:
        return format_ifm(parse_ifm(text))
    except ValueError as error:
        raise refusal.usage(f"--budget: {error}") from error


def _facts(headers: Mapping[str, str], elapsed_ms: float) -> dict[str, Any]:
    timing = _DURATION.search(headers.get("Server-Timing", ""))
    facts: dict[str, Any] = {
        "model": headers.get("Inframind-Model", ""),
        "node": headers.get("Inframind-Node", ""),
        "fee": headers.get("Inframind-Fee", ""),
        "latency_ms": round(elapsed_ms, 1),
        "server_ms": float(timing[1]) if timing else None,
        "receipt": headers.get("Inframind-Receipt", ""),
    }
    if headers.get("Idempotency-Replayed") == "true":
        facts["replayed"] = True
    if "Deprecation" in headers:
        facts["deprecated"] = True
        facts["sunset"] = headers.get("Sunset", "")
        facts["link"] = headers.get("Link", "")
    return facts


def _show_answer(answer: bytes, *, json_output: bool) -> None:
    if sys.stdout.isatty() and not json_output:
        try:
            out(json_text(json.loads(answer), indent=2))
        except ValueError:
            out(plain(answer.decode("utf-8", "replace")))
        return
    # Piped, the bytes stay as the model's answer has them: numbers are not read and written anew.
    sys.stdout.flush()
    sys.stdout.buffer.write(answer.rstrip(b"\n") + b"\n")
    sys.stdout.buffer.flush()


def _show_facts(facts: dict[str, Any], url: str) -> None:
    latency = f"{facts['latency_ms']:.0f} ms"
    if facts["server_ms"] is not None:
        latency += f" ({facts['server_ms']:.0f} ms in the mesh)"
    words = [
        plain(facts["model"]),
        f"on {plain(facts['node'])}" if facts["node"] else "",
        f"fee {plain(facts['fee'])}" if facts["fee"] else "",
        latency,
        f"{facts['pieces']} piece{'s' * (facts['pieces'] != 1)}, the first after "
        f"{facts['first_ms']:.0f} ms"
        if "pieces" in facts
        else "",
        "the answer of the first call with this key, charged once" if facts.get("replayed") else "",
    ]
    lines = [" · ".join(word for word in words if word)]
    if facts["receipt"]:
        lines.append(f"receipt {plain(facts['receipt'])}")
        if watched():
            lines.append(f"{url}/receipts/{plain(facts['receipt'])}")
    if facts.get("deprecated"):
        until = f" and ends {plain(facts['sunset'])}" if facts["sunset"] else ""
        warning = f"This version is deprecated{until}. {plain(facts['link'])}"
        err(f"{styled('Warning:', 'yellow')} {warning}")
    for line in lines:
        err(styled(line, "dim"))
