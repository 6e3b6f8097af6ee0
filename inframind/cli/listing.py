"""How listings look: as panels and tables for a person, as plain lines when piped."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from inframind.cli import evidence
from inframind.cli.terminal import out, plain, styled

_LONGEST_SAMPLE_CHARACTERS: Final = 60
_STATES: Final = {
    "active": "green",
    "popular": "green",
    "pending": "yellow",
    "deprecated": "yellow",
}

Rows = Sequence[tuple[str, str]]


def show_registration(document: dict[str, Any]) -> None:
    """What was registered and what came of it."""
    rows = [
        ("Model", reference(document)),
        *cid_rows(document),
        ("Endpoint", plain(document["endpoint"])),
        ("State", state(document)),
    ]
    verification = document.get("verification")
    checks = verification["checks"] if verification else []
    if checks:
        passed = sum(bool(check.get("passed")) for check in checks)
        rows.append(("Checks", f"{passed} of {len(checks)} passed"))
        rows.append(("Badges", badges(document) or "none"))
    if not document["created"]:
        rows.append(("Note", "This content was registered before; nothing changed."))
    show_rows(rows)


def show_table(models: Sequence[dict[str, Any]]) -> None:
    """One model a row: a table on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for each in models:
            out(
                "\t".join(
                    (*_cells(each), plain(each["runtime"]), plain(each["state"]), _about(each))
                )
            )
        return
    head = ("NAME", "VERSION", "TASK", "FEE")
    rows = [head, *map(_cells, models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    # What the named columns leave; they are typed again, so they are never cut.
    room = max(20, shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths))
    for row, about in zip(rows, ("DESCRIPTION", *map(_about, models)), strict=True):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        line = "  ".join((*cells, about if len(about) <= room else about[: room - 1] + "…"))
        out(styled(line, "bold", stdout=True) if row is head else line)


def on_a_terminal() -> bool:
    """Whether a person reads stdout, rather than a program."""
    return sys.stdout.isatty()


def show_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows of texts: aligned under a heading on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        for row in rows:
            out("\t".join(row))
        return
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        out(styled(line, "bold", stdout=True) if row is head else line)


def _cells(model: dict[str, Any]) -> tuple[str, str, str, str]:
    return plain(model["name"]), plain(model["version"]), plain(model["task"]), fee(model)


def _about(model: dict[str, Any]) -> str:
    return " ".join(plain(model["description"]).split())


def show_model(document: dict[str, Any], diagnostics: dict[str, Any] | None) -> None:
    """Everything that a caller asks first: what it is, its figures, its schemas, how to call it."""
    heading = f"{styled(reference(document), 'bold', stdout=True)}  {state(document)}"
    out(heading)
    out(plain(document["description"]))
    out("")
    show_rows(
        [
            ("Task", plain(document["task"])),
            ("Runtime", plain(document["runtime"])),
            ("Licence", plain(document["license"])),
            ("Stability", plain(document["stability"])),
            ("Badges", badges(document) or "none"),
            ("Answers", "in pieces" if document.get("streaming") else ""),
            ("Fee", fee(document)),
            ("Access", access(document)),
            ("Owner", plain(document.get("owner", ""))),
            ("Rewards to", plain(document.get("payout_address", ""))),
            *cid_rows(document),
            ("Container", plain(document.get("container") or "")),
            ("Endpoint", plain(document["endpoint"])),
        ]
    )
    _section("Figures", figures(diagnostics))
    _section("Input", schema_lines(document.get("input_schema") or {}))
    _section("Output", schema_lines(document.get("output_schema") or {}))
    _section("Call it", [f"  {line}" for line in how_to_call(document)])


def show_rows(rows: Rows) -> None:
    """Labels and values, the values aligned; empty values are left out."""
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        if value:
            out(f"{styled(label.ljust(width), 'dim', stdout=True)}  {value}")


def show_evidence(verification: dict[str, Any]) -> None:
    """The server's checks, on stdout."""
    for check in verification["checks"]:
        out(evidence.check_line(check, stdout=True))


def reference(document: dict[str, Any]) -> str:
    return f"{plain(document['name'])}@{plain(document['version'])}"


def state(document: dict[str, Any]) -> str:
    """The lifecycle state, with its reason where there is one."""
    word = plain(document["state"])
    text = styled(word, _STATES.get(word, "red"), stdout=True)
    reason = plain(document.get("state_reason") or "")
    return f"{text} ({reason})" if reason else text


def access(document: dict[str, Any]) -> str:
    """Who may see and call a model, where that is not everybody."""
    if not document.get("public", True):
        return "private: seen and called only by those whom its owner lets in"
    if document.get("restricted"):
        return "called only by those whom its owner lets in"
    return "a call needs a token" if document.get("auth_required") else ""


def cid_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """The CID of the files, and where they are stored sealed, that of what is stored."""
    rows = [("CID", plain(content_cid(document)))]
    if document.get("sealed"):
        rows.append(("Sealed as", plain(document["cid"])))
    return rows


def content_cid(document: dict[str, Any]) -> str:
    """The CID of a version's files as published, whether or not they are stored sealed."""
    return str(document.get("content_cid") or document["cid"])


def stored(document: dict[str, Any]) -> str:
    """How a package is stored where it is sealed; empty where everyone can read it."""
    return f"sealed as {plain(document['cid'])}" if document.get("sealed") else ""


def fee(document: dict[str, Any]) -> str:
    """``free`` or the readable amount."""
    amount = document.get("fee") or {}
    return "free" if amount.get("base_units", "0") == "0" else plain(amount.get("text", ""))


def badges(document: dict[str, Any]) -> str:
    return ", ".join(plain(badge["kind"]) for badge in document.get("badges", []))


def figures(diagnostics: dict[str, Any] | None) -> list[str]:
    """One line a window; what was seen too rarely is not made into a percentage."""
    windows = (diagnostics or {}).get("windows", [])
    if not windows:
        return ["  not enough data"]
    lines = []
    for window in windows:
        words = [plain(window["label"]).ljust(5), _calls(window["calls"])]
        if window.get("success_rate") is None:
            words.append("not enough data")
        else:
            words.append(f"{_percent(window['success_rate'])} succeed")
            words.append(f"p50 {_ms(window['p50_ms'])}, p95 {_ms(window['p95_ms'])}")
        if window.get("availability") is not None:
            words.append(f"available {_percent(window['availability'])}")
        lines.append("  " + " · ".join(words))
    return lines


def schema_lines(schema: dict[str, Any]) -> list[str]:
    """A schema in short: property, type, whether it must be there, what it is."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return [f"  {_type(schema)}"]
    required = schema.get("required") or []
    width = min(30, max(len(plain(name)) for name in properties))
    lines = []
    for name, each in properties.items():
        each = each if isinstance(each, dict) else {}
        need = "" if name in required else " (optional)"
        about = plain(each.get("description") or "")
        line = f"  {plain(name).ljust(width)}  {_type(each)}{need}"
        lines.append(f"{line}  {about}" if about else line)
    return lines


def how_to_call(document: dict[str, Any]) -> list[str]:
    """Command lines that work as they stand, made from the manifest's first example."""
    name = plain(document["name"])
    sample = _sample(document)
    pairs = _pairs(sample)
    free = fee(document) == "free" and not document.get("auth_required")
    token = [] if free else ["infra login"]
    stream = "--stream " if document.get("streaming") else ""
    given = "--input input.json" if pairs is None else pairs
    return [*token, f"infra call {stream}--model {name} {given}".rstrip()]


def _sample(document: dict[str, Any]) -> Any:
    examples = document.get("examples") or (document.get("manifest") or {}).get("examples") or []
    if examples and isinstance(examples[0], dict):
        return examples[0].get("input")
    return None


def _pairs(sample: Any) -> str | None:
    if not isinstance(sample, dict) or not sample:
        return None
    words = []
    for key, value in sample.items():
        if any(sign in key for sign in "=@:") or not key:
            return None
        if isinstance(value, str):
            word = f"{key}={value}"
            # A leading @ would be read as a file's name.
            if value.startswith("@"):
                return None
        else:
            word = f"{key}:={json.dumps(value, ensure_ascii=False)}"
        if len(word) > _LONGEST_SAMPLE_CHARACTERS or plain(word) != word or "\n" in word:
            return None
        words.append(shlex.quote(word))
    return " ".join(words)


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "any value")
    text = " or ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
    if "enum" in schema:
        shown = [json.dumps(each, ensure_ascii=False) for each in schema["enum"][:6]]
        text = " | ".join(shown) + (" | …" if len(schema["enum"]) > 6 else "")
    items = schema.get("items")
    if text == "array" and isinstance(items, dict):
        text = f"array of {_type(items)}"
    return plain(text)


def _section(title: str, lines: Iterable[str]) -> None:
    out("")
    out(styled(title, "bold", stdout=True))
    for line in lines:
        out(line)


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _ms(milliseconds: float | None) -> str:
    return "–" if milliseconds is None else f"{milliseconds:.0f} ms"
