"""``infra node``: join the mesh with a node, and see who runs models."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer

from inframind.cli import grouping, keystore, listing, options, refusal, signing
from inframind.cli.client import Server
from inframind.cli.terminal import err, moment, out_json, plain, styled

node_app = grouping.group("node")
_NODES: Final = "/api/v1/nodes"
SECRET_VARIABLE: Final = "INFRA_NODE_SECRET"  # noqa: S105 - the name of a variable
# The server loads a model on the node to see that the secret opens it.
_REGISTER_TIMEOUT_SECONDS: Final = 120.0
_MAX_SECRET_BYTES: Final = 4096
# Its operator is the marketplace itself, which has no wallet.
_HOUSE_OPERATOR: Final = f"0x{0:040x}"
_STATES: Final = {"ready": "green", "draining": "yellow"}


class PrivacyRuntime(enum.StrEnum):
    """How a node keeps inputs private."""

    ENCLAVE = "enclave"
    ZKML = "zkml"


@node_app.callback()
def node(context: typer.Context) -> None:
    """Register a node, and see the nodes of the mesh.

    \b
    Examples:
      infra node list
      infra node status node-a
    """
    grouping.show_help(context)


@node_app.command("register")
def register(
    endpoint: Annotated[
        str,
        typer.Option(
            "--endpoint",
            metavar="URL",
            help="Triton's HTTP address, like https://node.example.org:8000.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="What the node will be called.", show_default=False
        ),
    ],
    control_header: Annotated[
        str,
        typer.Option("--control-header", metavar="HEADER", help="Guards Triton's model control."),
    ] = "x-control",
    secret_file: Annotated[
        str,
        typer.Option(
            "--control-secret-file",
            metavar="FILE",
            help=f"Holds that header's secret; without it, {SECRET_VARIABLE}.",
            show_default=False,
        ),
    ] = "",
    metrics_endpoint: Annotated[
        str,
        typer.Option(
            "--metrics-endpoint", metavar="URL", help="On the same host.", show_default=False
        ),
    ] = "",
    grpc_endpoint: Annotated[
        str,
        typer.Option(
            "--grpc-endpoint", metavar="URL", help="On the same host.", show_default=False
        ),
    ] = "",
    capacity: Annotated[
        int, typer.Option("--capacity", min=1, max=1024, help="How many calls at once.")
    ] = 8,
    gpus: Annotated[int, typer.Option("--gpus", min=0, max=64, help="How many GPUs.")] = 0,
    privacy_runtime: Annotated[
        list[PrivacyRuntime] | None,
        typer.Option(
            "--privacy-runtime",
            metavar="RUNTIME",
            help="enclave or zkml; may be repeated.",
            show_default=False,
        ),
    ] = None,
    accepts_publisher_code: Annotated[
        bool,
        typer.Option(
            "--accepts-publisher-code", help="Runs code of publishers; say how with --isolation."
        ),
    ] = False,
    isolation: Annotated[
        str,
        typer.Option(
            "--isolation",
            metavar="TEXT",
            help="How publisher code is confined there.",
            show_default=False,
        ),
    ] = "",
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Join the mesh with a node. Your wallet and the node itself both prove that it is yours.

    The wallet that you are signed in with signs a text of the server, which is free, and the server
    loads a small model on the node with the control secret, asks it, and unloads it.

    \b
    Examples:
      infra node register --endpoint https://node.example.org:8000 --name north-1 --gpus 2
      infra node register --endpoint http://127.0.0.1:8100 --name b --control-secret-file ./secret
    """
    secret = _secret(secret_file)
    wallet = keystore.current()
    with Server() as server:
        server.require_token("register a node")
        challenge = server.document("POST", f"{_NODES}/challenge", json={"endpoint": endpoint})
        _require_honest(challenge, server.settings.url, wallet.address)
        text = str(challenge["text"])
        if not json_output:
            signing.show(text)
        signature = signing.sign(keystore.unlock(no_input=no_input), text)
        document = server.document(
            "POST",
            _NODES,
            json={
                "nonce": challenge["nonce"],
                "signature": signature,
                "name": name,
                "control_header": control_header,
                "control_secret": secret,
                "metrics_endpoint": metrics_endpoint,
                "grpc_endpoint": grpc_endpoint,
                "capacity": capacity,
                "gpu_count": gpus,
                "privacy_runtimes": [each.value for each in privacy_runtime or []],
                "accepts_publisher_code": accepts_publisher_code,
                "isolation": isolation,
            },
            timeout=_REGISTER_TIMEOUT_SECONDS,
        )
    _show(document, json_output=json_output)


@node_app.command("list")
def list_nodes(json_output: options.Json = False, no_input: options.NoInput = False) -> None:
    """List the nodes of the mesh.

    Piped, a node is a line of tab-separated name, state, capacity, GPUs, models, operator and
    reputation in percent.

    \b
    Examples:
      infra node list
      infra node list --json
    """
    with Server() as server:
        nodes = server.get(_NODES)["nodes"]
    if json_output:
        out_json(nodes)
        return
    if not nodes:
        err("No node has joined yet: infra node register")
        return
    listing.show_columns(
        ("NAME", "STATE", "CAPACITY", "GPUS", "MODELS", "OPERATOR", "REPUTATION"),
        [
            (
                plain(each["name"]),
                plain(each["state"]),
                str(each["capacity"]),
                str(each["gpu_count"]),
                str(len(each["models"])),
                _operator(each),
                _reputation(each),
            )
            for each in nodes
        ],
    )


@node_app.command("status")
def status(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The node.", show_default=False)],
    json_output: options.Json = False,
    no_input: options.NoInput = False,
) -> None:
    """Show a node: its state and why, what it offers, and which models lie on it.

    \b
    Examples:
      infra node status node-a
      infra node status node-a --json
    """
    with Server() as server:
        nodes = server.get(_NODES)["nodes"]
    found = next((each for each in nodes if each["name"] == name), None)
    if found is None:
        raise refusal.failed(
            "no-such-node",
            f"There is no node called {name}.",
            "See which there are: infra node list",
            retry_safe=False,
        )
    _show(found, json_output=json_output)


def _secret(secret_file: str) -> str:
    if not secret_file:
        secret = os.environ.get(SECRET_VARIABLE, "").strip()
        if not secret:
            raise refusal.usage(
                "The secret of the node's control header is needed.",
                f"export {SECRET_VARIABLE}=…, or name a file: --control-secret-file FILE",
            )
        return secret
    try:
        with Path(secret_file).expanduser().open("rb") as file:
            return file.read(_MAX_SECRET_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise refusal.usage(f"--control-secret-file: {secret_file} cannot be read: {why}.") from (
            error
        )


def _require_honest(challenge: dict[str, Any], url: str, address: str) -> None:
    """Raises Refusal (exit 1) unless the text says no more than that a node is this wallet's."""
    text = str(challenge["text"])
    said = f"{urlsplit(url).netloc} asks you to prove that you operate a node.\n\nWallet: {address}"
    rest = [f"Endpoint: {challenge['endpoint']}", f"Nonce: {challenge['nonce']}"]
    lines = text.removeprefix(f"{said}\n").split("\n")
    if text.startswith(f"{said}\n") and lines[:2] == rest and len(lines) == 3:
        return
    raise refusal.failed(
        "not-signed",
        f"{url} wants another text signed than that {address} operates this node. "
        "Nothing was signed.",
        "Sign in with the wallet that is to operate the node: infra login. INFRA_URL has to be the "
        "server's own address.",
    )


def _show(document: dict[str, Any], *, json_output: bool) -> None:
    if json_output:
        out_json(document)
        return
    word = plain(document["state"])
    state = styled(word, _STATES.get(word, "red"), stdout=True)
    reason = plain(document.get("state_reason") or "")
    listing.show_rows(
        [
            ("Node", plain(document["name"])),
            ("State", f"{state} ({reason})" if reason else state),
            ("Operator", _operator(document)),
            ("Reputation", _parts(document)),
            ("Paid calls", "yes" if document["paid_calls"] else "no, too few calls succeed"),
            ("Trusted", "yes" if document["trusted"] else "no"),
            ("Backends", ", ".join(map(plain, document["backends"]))),
            ("Capacity", f"{document['capacity']} calls at once"),
            ("GPUs", str(document["gpu_count"])),
            ("Privacy", ", ".join(map(plain, document["privacy_runtimes"]))),
            ("Isolation", plain(document["isolation"])),
            ("Last probe", moment(document["probed_at"])),
            *(
                ("Model", f"{plain(each['version'])} ({plain(each['state'])})")
                for each in document["models"]
            ),
        ]
    )


def _reputation(document: dict[str, Any]) -> str:
    found = document["reputation"]
    return "-" if found is None else _percent(found["score_bps"])


def _parts(document: dict[str, Any]) -> str:
    found, calls = document["reputation"], document["rated_calls"]
    if found is None:
        return f"not rated yet ({calls} calls so far)"
    parts = ", ".join(
        f"{word} {_percent(found[key])}%"
        for word, key in (
            ("success", "success_bps"),
            ("in time", "sla_bps"),
            ("latency", "latency_bps"),
        )
    )
    return f"{_percent(found['score_bps'])}% over {calls} calls ({parts})"


def _percent(basis_points: int) -> str:
    return f"{basis_points / 100:.2f}".rstrip("0").rstrip(".")


def _operator(document: dict[str, Any]) -> str:
    operator = plain(document["operator"])
    return "this marketplace" if operator == _HOUSE_OPERATOR else operator
