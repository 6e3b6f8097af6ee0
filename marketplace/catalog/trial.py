"""How verification borrows a node: the floor above registers a lender, this one asks for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from marketplace.catalog.models import Version


class TrialFailure(Exception):
    """A node, or the model on it, failed.

    ``retry`` says that it lies with the node and not with the model: the run waits and tries again.
    """

    def __init__(self, code: str, detail: str, remedy: str = "", *, retry: bool = False) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.remedy = remedy
        self.retry = retry


class TrialSession(Protocol):
    """A version loaded on a node for checking."""

    node_name: str
    load_duration_ms: int

    def infer(self, document: Any, *, timeout_seconds: float) -> Any:
        """The output document, of a streaming version the list of its pieces.

        Raises TrialFailure, or a 422 Problem for an unfit input.
        """
        ...

    def offers_privacy(self, runtime: str) -> bool:
        """Says whether a node of the mesh offers this privacy runtime."""
        ...


TrialLender = Callable[["Version"], AbstractContextManager[TrialSession]]

_lender: TrialLender | None = None


def set_lender(lender: TrialLender | None) -> None:
    """Registers who lends nodes; called once, when the mesh is ready."""
    global _lender
    _lender = lender


def lend(version: Version) -> AbstractContextManager[TrialSession]:
    """A node with ``version`` loaded, for the length of a ``with``. Raises TrialFailure."""
    if _lender is None:
        raise TrialFailure(
            "no-node", "No mesh is attached to this registry.", "Start a node.", retry=True
        )
    return _lender(version)
