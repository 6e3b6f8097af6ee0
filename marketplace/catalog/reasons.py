"""What every change that keeps a history asks for, and the refusal of arguments without sense."""

from __future__ import annotations

from inframind.lib.problem import Problem


def required_reason(text: str) -> str:
    """The reason as it is kept. Raises ``Problem`` 422 when there is none."""
    reason = text.replace("\0", "").strip()
    if not reason:
        raise unusable("A reason is needed; it stands in the history.")
    return reason[:200]


def unusable(detail: str, remedy: str = "") -> Problem:
    """A refusal of arguments that make no sense."""
    return Problem("invalid-request", detail, status=422, remedy=remedy)
