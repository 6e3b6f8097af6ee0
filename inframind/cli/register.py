"""``infra register``: pack, send, and wait until the registry has verified it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from inframind.cli import evidence, listing, options, packing, progress, refusal
from inframind.cli.client import Server, model_path
from inframind.cli.terminal import err, out_json, plain
from inframind.lib.cid import parse_cid
from inframind.lib.names import check_name

UPLOAD_ANSWER_TIMEOUT_SECONDS: Final = 300.0
# What is larger is no manifest that the server would take; it says so itself, with the limit.
_MAX_LOCAL_MANIFEST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Source:
    """What is registered: a packed directory, or a reference with its CID."""

    package: packing.Package | None
    reference: str
    cid: str
    name: str
    version: str
    allow_list: tuple[str, ...] = ()


def register(
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="PATH", help="The model.yaml, or its directory.", show_default=False
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="As in the manifest, or instead of it.",
            show_default=False,
        ),
    ] = "",
    version: Annotated[
        str,
        typer.Option(
            "--version",
            metavar="VERSION",
            help="As in the manifest, or instead of it; 1.0 means 1.0.0.",
            show_default=False,
        ),
    ] = "",
    reference: Annotated[
        str,
        typer.Option(
            "--reference",
            metavar="URL",
            help="An ar:// or https:// address of a packed model, instead of --model.",
            show_default=False,
        ),
    ] = "",
    cid: Annotated[
        str,
        typer.Option(
            "--cid", metavar="CID", help="What the content must hash to.", show_default=False
        ),
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the verification.")
    ] = True,
    timeout_seconds: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="SECONDS", min=0.0, help="How long to wait for the verification."
        ),
    ] = 600.0,
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Publish a model: its directory is packed, sent, stored under its CID and verified.

    Same files give the same CID, so registering twice changes nothing. Dotfiles, .git, __pycache__
    and what .infraignore names stay out.

    \b
    Examples:
      infra register --model model.yaml --name summarizer-v1 --version 1.0
      infra register --model ./summarizer-v1
      infra register --reference ar://<txid> --cid bafybei…
    """
    source = _source(model, name, version, reference, cid)
    with Server() as server:
        server.require_token("register a model")
        notices = _notices(source)
        _tell(notices, json_output=json_output)
        status, registered = _send(server, source)
        _require_same_cid(source, registered)
        name, version = registered["name"], registered["version"]
        from_server = registered.get("notices", [])
        _tell(from_server, json_output=json_output)
        verification: dict[str, Any] | None = None
        if wait:
            verification = evidence.wait(
                server, name, version, timeout_seconds=timeout_seconds, show_checks=not json_output
            )
        document = server.get(model_path(name, version))
        document |= {"created": status == 201, "verification": verification}
        if json_output:
            out_json(document | {"notices": [*notices, *from_server]})
        else:
            listing.show_registration(document)
        if verification is not None and verification["state"] == "failed":
            raise evidence.failure(name, version, verification)


def _source(model: str, name: str, version: str, reference: str, cid: str) -> _Source:
    version = options.strict_version(version) if version else ""
    if bool(model) == bool(reference):
        raise refusal.usage(
            "Exactly one of --model and --reference is needed.",
            "Publish a directory: infra register --model model.yaml",
        )
    if name:
        try:
            check_name(name)
        except ValueError as error:
            raise refusal.usage(str(error)) from error
    if reference and not cid:
        raise refusal.usage(
            "A reference needs --cid, so that everyone can check what it points to.",
            "Add the CID of the package's content.",
        )
    if cid:
        try:
            cid = str(parse_cid(cid))
        except ValueError as error:
            raise refusal.usage(str(error)) from error
    if reference:
        return _Source(None, reference, cid, name, version)
    root = _root(Path(model).expanduser())
    _require_manifest_agrees(root / packing.MANIFEST, name, version)
    replaced, allow_list = _without_allow_list(root / packing.MANIFEST)
    package = packing.scan(root, replaced=replaced)
    if cid:
        _require_declared_cid(package, cid)
    return _Source(package, "", cid, name, version, allow_list)


def _without_allow_list(path: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The manifest as it is to be sent, where it differs from the file, and who it lets in.

    Raises Refusal (exit 2) for a list that cannot be taken out without touching anything else.
    """
    from inframind.lib.manifesttext import AllowListStays, without_allow_list

    if path.stat().st_size > _MAX_LOCAL_MANIFEST_BYTES:
        return {}, ()
    text = path.read_bytes()
    try:
        sent, allowed = without_allow_list(text)
    except AllowListStays as error:
        raise refusal.usage(str(error)) from error
    return ({} if sent == text else {packing.MANIFEST: sent}), allowed


def _require_declared_cid(package: packing.Package, cid: str) -> None:
    for _ in package.stream():
        pass
    if package.cid != cid:
        raise refusal.failed(
            "cid-mismatch",
            f"The directory hashes to {package.cid}, not to the declared {cid}. Nothing was sent.",
            "Leave --cid out, or publish the content that it names.",
            retry_safe=False,
        )


def _root(path: Path) -> Path:
    if path.is_dir():
        root = path
    elif path.name == packing.MANIFEST:
        root = path.parent
    elif not path.exists():
        raise refusal.usage(
            f"There is no {path}.", f"Name a {packing.MANIFEST}, or the directory that holds one."
        )
    else:
        raise refusal.usage(
            f"{path} is neither a directory nor a {packing.MANIFEST}.",
            f"The manifest of a package is called {packing.MANIFEST}.",
        )
    if not (root / packing.MANIFEST).is_file():
        raise refusal.usage(
            f"There is no {packing.MANIFEST} in {root.resolve()}",
            f"Name a {packing.MANIFEST}, or the directory that holds one.",
        )
    return root


def _require_manifest_agrees(path: Path, name: str, version: str) -> None:
    """Raises Refusal when the options contradict the manifest; all else the server judges."""
    said = _top_level_texts(path)
    if name and said.get("name", name) != name:
        raise refusal.usage(
            f"--name says {name}, {path} says {said['name']}.",
            "Make them agree, or leave --name out.",
        )
    if version and "version" in said and options.strict_version(said["version"]) != version:
        raise refusal.usage(
            f"--version says {version}, {path} says {said['version']}.",
            "Make them agree, or leave --version out.",
        )
    for field, given in (("name", name), ("version", version)):
        if said and not (given or said.get(field)):
            raise refusal.usage(f"{path} has no {field}.", f"Add one there, or give --{field}.")


def _top_level_texts(path: Path) -> dict[str, str]:
    # The nodes rather than their values: 1.10 must stay 1.10 and not become the number 1.1.
    try:
        if path.stat().st_size > _MAX_LOCAL_MANIFEST_BYTES:
            return {}
        root = yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, OSError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_manifest(path, f"it cannot be read as YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise _not_a_manifest(path, "its top level holds no fields")
    return {
        key.value: value.value
        for key, value in root.value
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
    }


def _not_a_manifest(path: Path, why: str) -> refusal.Refusal:
    return refusal.failed(
        "manifest-invalid",
        f"{path} is not a manifest: {why}. Nothing was sent.",
        "It begins with lines like: name: summarizer-v1",
        retry_safe=False,
    )


def _notices(source: _Source) -> list[str]:
    """What is to be known before anything is sent."""
    found = []
    if count := len(source.allow_list):
        entries = "1 entry" if count == 1 else f"{count} entries"
        found.append(
            f"{entries} of access.allow_list {'goes' if count == 1 else 'go'} beside the package: "
            "an allow list is policy, and never part of what is published."
        )
    if source.package and source.package.left_out:
        found.append(f"Left out: {', '.join(source.package.left_out)}")
    return found


def _tell(notices: list[str], *, json_output: bool) -> None:
    # With --json the result carries them, and stderr stays a program's.
    if not json_output:
        for notice in notices:
            err(plain(notice))


def _send(server: Server, source: _Source) -> tuple[int, dict[str, Any]]:
    named = {"name": source.name, "version": source.version}
    fields = {key: value for key, value in named.items() if value}
    path = "/api/v1/models"
    if source.package is None:
        reference = {"reference": source.reference, "cid": source.cid, **fields}
        return server.exchange("POST", path, json=reference, timeout=UPLOAD_ANSWER_TIMEOUT_SECONDS)
    if source.allow_list:
        fields["allow_list"] = json.dumps(source.allow_list)
    import httpx

    boundary = secrets.token_hex(16)
    head, tail = _multipart(boundary, fields)
    length = len(head) + source.package.size_bytes + len(tail)
    with progress.bar("Uploading", source.package.size_bytes) as advance:
        return server.exchange(
            "POST",
            path,
            content=_body(head, source.package, tail, advance),
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(length),
            },
            timeout=httpx.Timeout(UPLOAD_ANSWER_TIMEOUT_SECONDS, connect=10.0),
        )


def _multipart(boundary: str, fields: dict[str, str]) -> tuple[bytes, bytes]:
    """What stands before and after the archive; fields first, for the server to know early."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="package"; '
        'filename="package.tar"\r\nContent-Type: application/x-tar\r\n\r\n'
    )
    return "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()


def _body(
    head: bytes, package: packing.Package, tail: bytes, advance: progress.Advance
) -> Iterator[bytes]:
    yield head
    for piece in package.stream():
        yield piece
        advance(len(piece))
    yield tail


def _require_same_cid(source: _Source, registered: dict[str, Any]) -> None:
    expected = source.cid if source.package is None else source.package.cid
    actual = listing.content_cid(registered)
    if actual != expected:
        raise refusal.failed(
            "cid-mismatch",
            f"The server registered {actual}, but what was sent hashes to {expected}.",
            "Do not rely on this version. Tell the server's operator.",
            expected_cid=expected,
            actual_cid=actual,
        )
