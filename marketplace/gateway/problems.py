"""Problems that a call ends with in whatever form it is answered."""

from __future__ import annotations

from inframind.lib.problem import Problem, Violation


def broken() -> Problem:
    """The 500 of a call that met a fault of ours."""
    return Problem(
        "internal-error",
        "Something failed on our side; it is in our log under the call's id.",
        status=500,
        remedy="Try again; if it stays, tell us the id.",
        retry_safe=True,
    )


def model_failed(reason: str) -> Problem:
    """The 502 of a call whose model gave an error of its own."""
    return Problem(
        "model-failed",
        f"The model gave an error: {reason}",
        status=502,
        remedy="Check the input; if it is right, tell the model's owner.",
        retry_safe=True,
    )


def invalid_output(
    detail: str, violations: tuple[Violation, ...] = (), *, what: str = "The model's output"
) -> Problem:
    """The 502 of an answer, or of ``what`` part of one, that breaks the model's own contract."""
    return Problem(
        "invalid-output",
        f"{what} cannot be delivered. {detail}",
        status=502,
        violations=violations,
        remedy="This lies with the model; tell its owner, or call another version.",
        retry_safe=True,
    )
