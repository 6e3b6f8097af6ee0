"""``infra model export``: a package comes back exactly as published, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from inframind.cli import options, progress, refusal, unpacking
from inframind.cli.client import Server, model_path
from inframind.cli.listing import content_cid, reference, show_rows, stored
from inframind.cli.terminal import can_ask, out_json, plain


def export(
    argument: options.ModelArgument = "",
    name: options.NameOption = "",
    version: options.VersionOption = "",
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A directory, or a file ending in .tar; without it, NAME-VERSION here.",
            show_default=False,
        ),
    ] = "",
    cid: Annotated[
        str,
        typer.Option(
            "--cid", metavar="CID", help="Refuse anything but this content.", show_default=False
        ),
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Download a model's package and check that it is what its CID says.

    The CID is computed on this machine while the bytes come; if it is another one, nothing is kept.

    \b
    Examples:
      infra model export summarizer-v1
      infra model export summarizer-v1@1.0.0 --output ./summarizer
      infra model export summarizer-v1 --output summarizer.tar
    """
    name, number = options.model_and_version(argument, name, version)
    with Server() as server:
        document = server.get(model_path(name, number))
        registered = content_cid(document)
        if cid and cid != registered:
            raise refusal.failed(
                "cid-mismatch",
                f"{reference(document)} is registered as {registered}, not as {cid}.",
                "Nothing was downloaded. Name the version that has this CID.",
                expected_cid=cid,
                actual_cid=registered,
            )
        target = Path(output).expanduser() if output else Path(f"{name}-{document['version']}")
        _require_free(target, force=force, may_ask=can_ask(no_input))
        unpacked = _download(server, document, target)
    if json_output:
        out_json(
            {
                "name": document["name"],
                "version": document["version"],
                "cid": unpacked.cid,
                "sealed": bool(document.get("sealed")),
                "files": unpacked.files,
                "size_bytes": unpacked.size_bytes,
                "path": str(target.absolute()),
            }
        )
        return
    show_rows(
        [
            ("Model", reference(document)),
            ("CID", f"{plain(unpacked.cid)} (computed here, as registered)"),
            ("Stored", stored(document)),
            ("Package", f"{unpacked.files} files, {unpacked.size_bytes} bytes"),
            ("Saved to", str(target)),
        ]
    )


def hash_package(server: Server, document: dict[str, Any]) -> unpacking.Unpacked:
    """Fetches a package and keeps nothing of it; raises Refusal unless it hashes right."""
    return _fetch(server, document, unpacking.Nowhere())


def _download(server: Server, document: dict[str, Any], target: Path) -> unpacking.Unpacked:
    if target.suffix == ".tar":
        with unpacking.file_in_the_making(target) as file:
            archive = unpacking.IntoTar(file)
            unpacked = _fetch(server, document, archive)
            archive.finish()
            return unpacked
    with unpacking.directory_in_the_making(target) as directory:
        return _fetch(server, document, unpacking.IntoDirectory(directory))


def _fetch(server: Server, document: dict[str, Any], sink: unpacking.Sink) -> unpacking.Unpacked:
    path = model_path(document["name"], document["version"], "/package")
    with server.answer("GET", path, headers={"Accept": "*/*"}) as response:
        length = response.headers.get("Content-Length", "")
        total_bytes = int(length) if length.isdigit() else None
        with progress.bar("Downloading", total_bytes) as advance:
            unpacked = unpacking.unpack(_counted(response.iter_bytes(), advance), sink)
    unpacking.require_cid(unpacked.cid, content_cid(document), reference(document))
    return unpacked


def _counted(pieces: Iterator[bytes], advance: progress.Advance) -> Iterator[bytes]:
    for piece in pieces:
        advance(len(piece))
        yield piece


def _require_free(target: Path, *, force: bool, may_ask: bool) -> None:
    """Raises Refusal when the target would lose something that was not given up."""
    is_archive = target.suffix == ".tar"
    if not target.exists() and not target.is_symlink():
        return
    if target.is_dir() and (is_archive or not _replaceable(target)):
        raise refusal.usage(
            f"{target} is a directory that no export made.", "Name another place with --output."
        )
    if target.is_file() and not is_archive:
        raise refusal.usage(f"{target} is a file.", "Name a directory, or a file ending in .tar.")
    if target.is_dir() and not any(target.iterdir()):
        return
    if force or (may_ask and typer.confirm(f"{target} exists. Replace it?", err=True)):
        return
    raise refusal.usage(f"{target} exists.", "Add --force to replace it, or name another --output.")


def _replaceable(directory: Path) -> bool:
    # --force must never empty somebody's home: only what looks like a package goes.
    names = {each.name for each in directory.iterdir()}
    return not names or ("model.yaml" in names and ".git" not in names)
