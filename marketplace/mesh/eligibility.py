"""Which node may run which version: pure rules."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wanted:
    """A version's side. ``code_approved`` speaks of exactly this version's CID.

    ``named_nodes``: the names of nodes to which the owner lets a private model go.
    """

    runtime: str
    public: bool
    owner: str
    code_approved: bool
    named_nodes: frozenset[str] = frozenset()
    streaming: bool = False


@dataclass(frozen=True)
class Offered:
    """A node's side."""

    backends: frozenset[str]
    accepts_publisher_code: bool
    trusted: bool
    operator: str
    name: str = ""
    grpc: bool = False  # it has a gRPC address


def refusal(wanted: Wanted, offered: Offered) -> str:
    """Why the node may not run the version, for its owner; empty when it may."""
    if wanted.runtime == "container":
        return "Container images are listed here, not executed."
    own = offered.operator == wanted.owner or offered.name in wanted.named_nodes
    if not wanted.public and not offered.trusted and not own:
        return "A private package goes only to trusted nodes and to those its owner names."
    if wanted.runtime == "python":
        if not offered.accepts_publisher_code:
            return "The node's operator does not accept publisher code."
        if not wanted.code_approved:
            return "The code of this package has not been reviewed and approved yet."
        if "python" not in offered.backends:
            return "The node has no Python backend."
        if wanted.streaming and not offered.grpc:
            return "The node has no gRPC address, by which a streaming model answers."
        return ""
    if offered.accepts_publisher_code and offered.operator != wanted.owner:
        return "The node is set apart for publisher code."
    if not offered.backends & {"python", "onnxruntime"}:
        return "The node has no backend for ONNX."
    return ""
