"""Lending a node to verification: the catalog asks through ``marketplace.catalog.trial``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from marketplace.catalog.models import Version
from marketplace.catalog.trial import TrialFailure
from marketplace.mesh import client, modelconfig, placing, streams
from marketplace.mesh.models import Node, Placement
from marketplace.mesh.tensors import BadOutput, decode, encode


class Session:
    """One version on one node, for the length of a verification."""

    def __init__(self, placement: Placement) -> None:
        self._node = placement.node
        self._program = placing.program_of(placement.version)
        self._triton_model = modelconfig.triton_name(placement.version_id)
        self.node_name = placement.node.name
        self.load_duration_ms = placement.load_duration_ms

    def infer(self, document: Any, *, timeout_seconds: float) -> Any:
        """The output document, or the list of a streaming version's.

        Raises ``TrialFailure``, or the 422 ``Problem`` of ``encode``.
        """
        try:
            if self._program.streaming:
                return self._pieces(document, timeout_seconds)
            return self._whole(document, timeout_seconds)
        except BadOutput as error:
            raise TrialFailure(
                "invalid-output",
                str(error),
                "Make the model give what the manifest's tensors declare.",
            ) from None
        except client.ModelFailed as error:
            raise TrialFailure(
                "model-failed",
                f"The model gave an error: {error}",
                "Make the model answer whatever its input schema allows, or narrow it.",
            ) from None
        except client.NodeTimeout as error:
            raise TrialFailure("timed-out", str(error), "Make the model answer in time.") from None
        except client.NodeError as error:
            raise TrialFailure(
                "node-lost", f"The node was lost: {error}", "It is tried again.", retry=True
            ) from None

    def _whole(self, document: Any, timeout_seconds: float) -> Any:
        batch = self._program.max_batch_size
        answer = client.infer_once(
            placing.address_of(self._node),
            self._triton_model,
            encode(document, self._program.inputs, max_batch_size=batch),
            timeout_seconds=timeout_seconds,
        )
        return decode(answer, self._program.outputs, max_batch_size=batch)

    def _pieces(self, document: Any, timeout_seconds: float) -> list[Any]:
        pieces = streams.pieces_once(
            placing.address_of(self._node),
            self._triton_model,
            orjson.dumps(document),
            timeout_seconds=timeout_seconds,
        )
        return [streams.document_of(piece) for piece in pieces]

    def offers_privacy(self, runtime: str) -> bool:
        """Whether a node that is ready offers this privacy runtime."""
        return Node.objects.filter(
            state=Node.State.READY, privacy_runtimes__contains=[runtime]
        ).exists()


@contextmanager
def lend(version: Version) -> Iterator[Session]:
    """A node with the version loaded. Raises ``TrialFailure``."""
    nodes = placing.eligible_nodes(version)
    if not nodes:
        raise TrialFailure(
            "no-node",
            placing.why_nowhere(version) or "No node is ready.",
            "It is tried again as soon as a node may run it.",
            retry=True,
        )
    # A node that has it already says nothing new about loading, the emptiest other one does.
    placement = placing.place(version_id=version.pk, node_id=nodes[0].pk, again=True)
    if placement.state == Placement.State.LOADING:
        raise TrialFailure(
            "node-busy",
            placement.reason or f"{nodes[0].name} is loading it just now.",
            "It is tried again in a moment.",
            retry=True,
        )
    if placement.state == Placement.State.FAILED:
        raise TrialFailure(
            "load-failed",
            f"The model did not load: {placement.reason}",
            "Mend the package so that it loads, and publish it as a new version.",
        )
    yield Session(Placement.objects.select_related("node", "version").get(pk=placement.pk))
