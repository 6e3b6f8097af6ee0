"""``infra model``: find, read, export and verify what is registered."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import typer

from inframind.cli import evidence, grouping, listing, options
from inframind.cli.access import access_app
from inframind.cli.client import Server, model_path
from inframind.cli.deprecating import deprecate
from inframind.cli.exporting import export, hash_package
from inframind.cli.refusal import Refusal
from inframind.cli.terminal import err, out_json, plain

model_app = grouping.group("model")

_MODELS: Final = "/api/v1/models"


class Runtime(enum.StrEnum):
    """What runs a model."""

    ONNX = "onnx"
    PYTHON = "python"
    CONTAINER = "container"


class Sort(enum.StrEnum):
    """In which order models are listed."""

    RELEVANCE = "relevance"
    NEWEST = "newest"
    NAME = "name"
    PRICE = "price"
    CALLS = "calls"


@model_app.callback()
def model(context: typer.Context) -> None:
    """Find, read, verify and manage models.

    \b
    Examples:
      infra model list profanity --sort calls
      infra model show ocr-v1
      infra model export ocr-v1@1.0.0 --output ./ocr
      infra model verify ocr-v1
    """
    grouping.show_help(context)


@model_app.command("list")
def list_models(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="Words to search for.", show_default=False),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="TASK",
            help="Like summarization; may be repeated.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        list[Runtime] | None,
        typer.Option("--runtime", help="May be repeated.", show_default=False),
    ] = None,
    sort: Annotated[
        Sort | None,
        typer.Option(
            "--sort", help="By default relevance for a search, else name.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")
    ] = 30,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """List and search models.

    Piped, a model is a line of tab-separated name, version, task, fee, runtime, state, description.

    \b
    Examples:
      infra model list
      infra model list text language --task language-identification
      infra model list --runtime onnx --sort calls --limit 5 --json
    """
    query: dict[str, Any] = {
        "q": " ".join(text or []),
        "task": task or [],
        "runtime": [each.value for each in runtime or []],
        "sort": sort.value if sort else "",
    }
    query = {key: value for key, value in query.items() if value}
    with Server() as server:
        models, more = _collect(server, query, limit)
    if json_output:
        out_json(models)
        return
    if not models:
        err("No model matches. `infra model list` shows all.")
        return
    listing.show_table(models)
    if more:
        err(f"There are more than these {len(models)}: raise --limit, or narrow the search.")


@model_app.command("show")
def show(
    argument: options.ModelArgument = "",
    name: options.NameOption = "",
    version: options.VersionOption = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show a model: what it is, its figures, its schemas, how to call it.

    \b
    Examples:
      infra model show summarizer-v1
      infra model show summarizer-v1@1.0 --json
    """
    name, number = options.model_and_version(argument, name, version)
    with Server() as server:
        document = version_document(server, name, number)
        diagnostics = _diagnostics(server, name, document["version"])
    if json_output:
        out_json(document | {"diagnostics": diagnostics})
    else:
        listing.show_model(document, diagnostics)


@model_app.command("verify")
def verify(
    argument: options.ModelArgument = "",
    name: options.NameOption = "",
    version: options.VersionOption = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Hash a model's package yourself, and see the registry's evidence.

    Fetches the package, computes its CID on this machine and compares it with the registered one.
    Exit 1 if they differ, or if the registry's own checks failed.

    \b
    Examples:
      infra model verify summarizer-v1
      infra model verify summarizer-v1@1.0.0 --json
    """
    name, number = options.model_and_version(argument, name, version)
    with Server() as server:
        document = version_document(server, name, number)
        verification = evidence.fetch(server, name, document["version"])
        unpacked = hash_package(server, document)
    result = {
        "name": document["name"],
        "version": document["version"],
        "cid": listing.content_cid(document),
        "sealed": bool(document.get("sealed")),
        "stored_cid": document["cid"],
        "computed_cid": unpacked.cid,
        "files": unpacked.files,
        "size_bytes": unpacked.size_bytes,
        "state": document["state"],
        "badges": document.get("badges", []),
        "verification": verification,
    }
    if json_output:
        out_json(result)
    else:
        listing.show_rows(
            [
                ("Model", listing.reference(document)),
                ("CID", f"{plain(unpacked.cid)} (computed here, as registered)"),
                ("Stored", listing.stored(document)),
                ("Package", f"{unpacked.files} files, {unpacked.size_bytes} bytes"),
                ("State", listing.state(document)),
                ("Badges", listing.badges(document) or "none"),
                ("Evidence", plain(verification["state"])),
            ]
        )
        listing.show_evidence(verification)
    if verification["state"] == "failed":
        raise evidence.failure(name, document["version"], verification)


model_app.command("export")(export)
model_app.command("deprecate")(deprecate)
model_app.add_typer(access_app)


def version_document(server: Server, name: str, number: str) -> dict[str, Any]:
    """The registry's document of a version, of the current one when none is named."""
    return server.get(model_path(name, number))


def _collect(
    server: Server, query: dict[str, Any], limit: int
) -> tuple[list[dict[str, Any]], bool]:
    models: list[dict[str, Any]] = []
    while True:
        page = server.get(_MODELS, query)
        models += page["results"]
        following = page.get("next")
        if len(models) >= limit or not following:
            return models[:limit], bool(following) or len(models) > limit
        # Only its parameters: the token goes to the configured server, whatever the link says.
        query = parse_qs(urlsplit(following).query)


def _diagnostics(server: Server, name: str, version: str) -> dict[str, Any] | None:
    try:
        return server.get(model_path(name, rest="/diagnostics"), {"version": version})
    except Refusal as problem:
        if problem.document.get("status") == 404:
            return None
        raise
