"""The one way a domain call refuses: a ``Problem`` that pages, API and command line can all render.

Its fields are those of RFC 9457 plus what a caller of a paid service needs to know at once: whether
anything was charged, whether a retry is safe, and what to do next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TYPE_PREFIX = "/problems/"
CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Violation:
    """A place in a document that breaks a rule: RFC 6901 pointer, what is wrong, how to mend it."""

    pointer: str
    detail: str
    remedy: str = ""
    line: int | None = None

    def as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {"pointer": self.pointer, "detail": self.detail}
        if self.remedy:
            document["remedy"] = self.remedy
        if self.line is not None:
            document["line"] = self.line
        return document


class Problem(Exception):
    """A refusal with a stable ``code``; ``status`` is the HTTP status it travels with.

    ``charged`` is None where nobody can say yet: then ``detail`` tells where it will show.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        status: int = 400,
        title: str = "",
        remedy: str = "",
        violations: tuple[Violation, ...] = (),
        retry_safe: bool = False,
        retry_after_seconds: int | None = None,
        charged: bool | None = False,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.title = title or code.replace("-", " ").capitalize()
        self.remedy = remedy
        self.violations = violations
        self.retry_safe = retry_safe
        self.retry_after_seconds = retry_after_seconds
        self.charged = charged
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers.setdefault("Retry-After", str(retry_after_seconds))
        self.extra = dict(extra or {})

    def as_document(self, *, instance: str = "") -> dict[str, Any]:
        """The ``application/problem+json`` document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "charged": self.charged,
            "retry_safe": self.retry_safe,
        }
        if self.remedy:
            document["remedy"] = self.remedy
        if self.violations:
            document["violations"] = [each.as_document() for each in self.violations]
        if self.retry_after_seconds is not None:
            document["retry_after_seconds"] = self.retry_after_seconds
        if instance:
            document["instance"] = instance
        document.update(self.extra)
        return document


def for_protocol(problem: Problem) -> Problem:
    """The same with its detail as ``error`` too, where the Open Inference Protocol has it."""
    problem.extra["error"] = problem.detail
    return problem


def not_found(what: str, remedy: str = "") -> Problem:
    """A 404 that says the same for what does not exist and for what is private and not yours."""
    return Problem("not-found", f"There is no {what}.", status=404, remedy=remedy, retry_safe=True)
