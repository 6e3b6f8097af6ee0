"""What the review of publisher code says about content; the newest verdict counts."""

from __future__ import annotations

from marketplace.catalog.models import CodeReview, Version


def latest_review(content_cid: str) -> CodeReview | None:
    """The verdict in force for these bytes."""
    return CodeReview.objects.filter(cid=content_cid).order_by("-id").first()


def may_run(version: Version) -> bool:
    """Whether the version's code may run on a node: it ships none, or it was approved."""
    return not waiting_reason(version)


def waiting_reason(version: Version) -> str:
    """Why the version cannot be verified yet, and what has to happen; empty when it can."""
    if version.runtime == Version.Runtime.CONTAINER:
        return (
            "Containers are recorded and shown, not run: no node of this mesh executes them yet. "
            "Publish the model as onnx or python to have it verified and called."
        )
    if version.runtime != Version.Runtime.PYTHON:
        return ""
    review = latest_review(version.content_cid)
    if review is None:
        return (
            f"Waiting for a code review of {version.content_cid}: publisher code runs only after a "
            "person has read it. Nothing is to be done by you."
        )
    if review.verdict == CodeReview.Verdict.REFUSED:
        return (
            f"The code review refused {version.content_cid}: "
            f"{review.note or 'no reason was given'}. "
            "Mend the code and publish it under the next number."
        )
    return ""
