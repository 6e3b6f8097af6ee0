"""How a command fails: one RFC 9457 problem document, its words for a person, its exit code."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Final

from inframind.cli.terminal import err, err_json, plain, styled

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_ALLOWED: Final = 4
EXIT_INTERRUPTED: Final = 130

_LOCAL_TYPE_PREFIX: Final = "/problems/"
_SIGN_IN_REMEDY: Final = "Sign in with `infra login`, or export INFRA_TOKEN=<your token>."
# What was typed by mistake may be a token or a key, and an error ends up in logs.
_SECRET: Final = re.compile(r"infra_[0-9A-Za-z]{20,}|(?<![0-9A-Za-z])(?:0x)?[0-9a-fA-F]{64}\b")
_TOP_UP: Final = (
    "Top up with `infra deposit 2.5IFM`, and see `infra balance`. Models that are free need no "
    "balance: infra model list --sort price"
)
# The server speaks to programs, of addresses and headers; here the same is a command or an option.
_REMEDIES: Final = {
    "not-found": "See what there is: infra model list. A private model is seen by those only whom "
    "its owner lets in: infra login, then infra model access ask.",
    "token-required": _SIGN_IN_REMEDY,
    "invalid-token": "Sign in again with `infra login`, or put a token that is still good in "
    "INFRA_TOKEN.",
    "stream-only": "Call it with --stream: its answer comes in pieces.",
    "over-budget": "Raise --budget, or make a call that costs less.",
    "insufficient-balance": _TOP_UP,
    "insufficient-funds": _TOP_UP,
    "day-limit-reached": "Raise your limit with `infra balance --per-day 5IFM`, or take it away "
    "with `infra balance --per-day none`; or wait until midnight UTC.",
}


# Nothing left this machine, or it was no call: of fees and of another try there is nothing to say.
_NO_CALL: Final = frozenset(
    {
        "wrong-usage",
        "not-signed-in",
        "no-wallet",
        "wrong-password",
        "other-wallet",
        "contracts-changed",
        "no-chain",
        "no-faucet",
        "not-signed",
        "transaction-reverted",
        "not-mined-yet",
        "not-credited-yet",
        "not-paid-yet",
        "not-relayed",
        "withdrawal-open",
        "too-little-available",
        "not-claimed-yet",
        "rewards-unsound",
        "receipt-unsound",
        "unreadable-dump",
    }
)
_MISSING_MODEL: Final = "There is no model"


class Refusal(Exception):
    """A command cannot do what was asked. ``document`` is the problem, ``exit_code`` the status."""

    def __init__(self, document: dict[str, Any], exit_code: int) -> None:
        super().__init__(str(document.get("detail", "")))
        self.document = document
        self.exit_code = exit_code

    def show(self, *, as_json: bool) -> None:
        """Writes it on stderr: the document itself, or sentences."""
        if as_json:
            err_json(self.document)
        else:
            for line in sentences(self.document):
                err(line)


def usage(detail: str, remedy: str = "") -> Refusal:
    """What was typed, or the configuration, cannot be used: exit 2. Nothing was sent."""
    document = _document("wrong-usage", _without_secrets(detail), remedy, charged=False)
    return Refusal(document, EXIT_USAGE)


def not_signed_in(action: str, *, url: str, expired_at: str = "") -> Refusal:
    """There is no token for something that needs one: exit 4. Nothing was sent."""
    why = (
        f"your login at {url} expired on {expired_at}"
        if expired_at
        else f"you are not signed in at {url}"
    )
    document = _document(
        "not-signed-in", f"To {action} you need a token, and {why}.", _SIGN_IN_REMEDY, charged=False
    )
    return Refusal(document, EXIT_NOT_ALLOWED)


def failed(
    code: str,
    detail: str,
    remedy: str = "",
    *,
    charged: bool | None = False,
    retry_safe: bool | None = None,
    **extra: Any,
) -> Refusal:
    """Something went wrong on the way: exit 1. ``charged=None`` means that nobody here can know."""
    document = _document(code, detail, remedy, charged=charged)
    if retry_safe is not None:
        document["retry_safe"] = retry_safe
    document.update(extra)
    return Refusal(document, EXIT_FAILED)


def from_answer(
    status: int, body: bytes, *, url: str, retry_after: str = "", receipt: str = ""
) -> Refusal:
    """The server's refusal; anything that is no problem document still gets a clear sentence."""
    exit_code = EXIT_NOT_ALLOWED if status in (401, 403) else EXIT_FAILED
    try:
        document = json.loads(body)
    except (ValueError, UnicodeDecodeError):
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("detail"), str):
        document = _document(
            "unexplained-answer",
            f"{url} answered with status {status} and without an explanation.",
            "Check that INFRA_URL names an InfraMind server."
            if status < 500
            else "The server, or what stands before it, is in trouble. Try again later.",
            charged=None,
        )
    document.setdefault("status", status)
    if retry_after.isdigit():
        document.setdefault("retry_after_seconds", int(retry_after))
    if receipt:
        document["receipt"] = receipt
    if status == 401 and not document.get("remedy"):
        document["remedy"] = _REMEDIES["invalid-token"]
    return Refusal(document, exit_code)


def sentences(document: dict[str, Any]) -> list[str]:
    """The lines that a person reads: what happened, where, what to do, money, retry."""
    lines = [f"{styled('Error:', 'red')} {plain(document['detail'])}"]
    lines += violations(document)
    code = str(document.get("type", "")).removeprefix(_LOCAL_TYPE_PREFIX)
    remedy = _REMEDIES.get(code, document.get("remedy"))
    if code == "insufficient-scope":
        remedy = _wider(document)
    if code == "not-found" and _MISSING_MODEL not in document["detail"]:
        remedy = document.get("remedy")
    if isinstance(remedy, str) and remedy:
        lines.append(plain(remedy))
    if code in _NO_CALL:
        return lines
    tail = [_charge(document), _retry(document)]
    lines.append(styled(" ".join(part for part in tail if part), "dim"))
    if document.get("receipt"):
        lines.append(styled(f"receipt {plain(document['receipt'])}", "dim"))
    instance = document.get("instance")
    if isinstance(instance, str) and int(document.get("status") or 0) >= 500:
        lines.append(
            styled(f"Tell the operator this when you ask for help: {plain(instance)}", "dim")
        )
    return [line for line in lines if line]


def violations(document: dict[str, Any]) -> list[str]:
    """A line for each place that a problem points to, with what is wrong there."""
    return [_violation(each) for each in _dicts(document.get("violations"))]


def _wider(document: dict[str, Any]) -> str:
    """How one comes to a token that has the scope which the server misses."""
    scope, model = document.get("scope"), document.get("model")
    login = "unset INFRA_TOKEN and use your login (infra login)"
    if not isinstance(scope, str) or scope == "account":
        return f"Only the wallet itself may: {login}."
    which = f"--model {shlex.quote(model)}" if isinstance(model, str) else "--model NAME"
    action = "" if scope == "invoke" else f" --action {scope}"
    return (
        f"Make a token that may: infra token generate {which}{action} --expires-in 24h; or {login}."
    )


def _document(code: str, detail: str, remedy: str, *, charged: bool | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "type": _LOCAL_TYPE_PREFIX + code,
        "title": code.replace("-", " ").capitalize(),
        "detail": detail,
        "charged": charged,
    }
    if remedy:
        document["remedy"] = remedy
    return document


def _violation(violation: dict[str, Any]) -> str:
    place = plain(violation.get("pointer") or "") or "the whole document"
    if violation.get("line") is not None:
        place = f"line {violation['line']}, {place}"
    words = [f"  {place}: {plain(violation.get('detail', ''))}", plain(violation.get("remedy", ""))]
    return " ".join(word for word in words if word)


def _charge(document: dict[str, Any]) -> str:
    charged = document.get("charged")
    if charged is None:
        return "Whether anything was charged is not known here."
    return "The fee was charged." if charged else "Nothing was charged."


def _retry(document: dict[str, Any]) -> str:
    safe = document.get("retry_safe")
    # The server is right that a repeat does no harm; a name that is missing stays missing.
    if safe is None or (safe and document.get("status") == 404):
        return ""
    if not safe:
        return "The same request would be refused again: mend the cause first."
    seconds = document.get("retry_after_seconds")
    when = f" in {seconds} s" if isinstance(seconds, int) else ""
    return f"Trying again{when} is safe."


def _without_secrets(text: str) -> str:
    return _SECRET.sub("(a secret, not shown)", text)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
