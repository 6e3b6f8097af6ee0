"""Verification as a person watches it: waiting, the checks as they come, the outcome."""

from __future__ import annotations

from typing import Any, Final

from inframind.cli import progress, refusal
from inframind.cli.client import Server, model_path
from inframind.cli.terminal import err, plain, styled

UNFINISHED: Final = ("queued", "running")


def fetch(server: Server, name: str, version: str) -> dict[str, Any]:
    """The server's verification of a version: ``state``, ``reason`` and ``checks``."""
    return server.get(model_path(name, version, "/verification"))


def wait(
    server: Server, name: str, version: str, *, timeout_seconds: float, show_checks: bool
) -> dict[str, Any]:
    """Polls until the verification is finished, or waits for a person; writes each check on stderr.

    Raises Refusal when the time is over first: the verification itself goes on.
    """
    shown: set[str] = set()
    verification: dict[str, Any] = {}
    with progress.spinner("Verifying") as say:
        for _ in progress.pauses(timeout_seconds):
            verification = fetch(server, name, version)
            for check in verification["checks"]:
                if show_checks and check["kind"] not in shown:
                    shown.add(check["kind"])
                    err(check_line(check))
            if verification["state"] not in UNFINISHED:
                return verification
            say(_status(verification))
    raise refusal.failed(
        "verification-unfinished",
        f"{name}@{version} is registered, but its verification did not finish within "
        f"{timeout_seconds:.0f} s{_because(verification)}.",
        f"It goes on without you; see infra model verify {name}@{version}",
        retry_safe=True,
    )


def check_line(check: dict[str, Any], *, stdout: bool = False) -> str:
    """One check in one line: sign, what was checked, counts, duration, and why it failed."""
    passed = bool(check.get("passed"))
    sign = styled("✓", "green", stdout=stdout) if passed else styled("✗", "red", stdout=stdout)
    words = [sign, plain(check["title"])]
    if check.get("cases_total"):
        words.append(f"{check.get('cases_passed', 0)}/{check['cases_total']}")
    if check.get("duration_ms"):
        words.append(styled(f"{check['duration_ms']} ms", "dim", stdout=stdout))
    detail = plain(check.get("detail") or "")
    if detail and not passed:
        words.append(f"\n    {detail}")
    return "  " + " ".join(words)


def failure(name: str, version: str, verification: dict[str, Any]) -> refusal.Refusal:
    """The refusal for a version that did not pass, with the owner's reason."""
    reason = verification.get("reason") or "The server gives no reason."
    return refusal.failed(
        verification.get("reason_code") or "verification-failed",
        f"{name}@{version} did not pass its verification: {reason}",
        "Mend the package and register it under the next version number. This one stays pending.",
        verification=verification,
    )


def _because(verification: dict[str, Any]) -> str:
    reason = verification.get("reason")
    return f" ({reason})" if reason else ""


def _status(verification: dict[str, Any]) -> str:
    state = "Waiting for a node" if verification.get("state") == "queued" else "Verifying"
    reason = verification.get("reason")
    return f"{state}: {plain(reason)}" if reason else state
