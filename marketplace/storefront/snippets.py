"""The same call as curl, Python and JavaScript. Pure: no Django."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

INLINE_LIMIT = 2_000
_EVENTS = "text/event-stream"
_PYTHON_ANSWER = "\nanswer.raise_for_status()\nprint(answer.json())\n"
_PYTHON_EVENTS = (
    " as answer:\n    answer.raise_for_status()\n"
    "    for line in answer.iter_lines():\n        print(line)\n"
)
_SCRIPT_EVENTS = (
    "for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {\n"
    "  console.log(text);\n}\n"
)


@dataclass(frozen=True)
class Snippet:
    """A call in one language, cut around the document so that the page can follow a form."""

    id: str
    title: str
    before: str
    writer: str  # shell, python or javascript; empty when the document is in a file
    document: str
    after: str


def _compact(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(", ", ": "))


def shell_literal(document: Any) -> str:
    """The document as JSON between single quotes of a POSIX shell."""
    return "'" + _compact(document).replace("'", "'\\''") + "'"


def python_literal(document: Any) -> str:
    """The document as a Python expression."""
    if isinstance(document, dict):
        inner = ", ".join(
            f"{_compact(key)}: {python_literal(value)}" for key, value in document.items()
        )
        return f"{{{inner}}}"
    if isinstance(document, list):
        return f"[{', '.join(python_literal(value) for value in document)}]"
    if isinstance(document, str):
        return _compact(document)
    return repr(document)


def snippets(
    endpoint: str, document: Any, *, needs_token: bool, streaming: bool = False
) -> tuple[Snippet, ...]:
    """The call of `endpoint` with `document` in three languages; `streaming`: for its events.

    A document too long to read inside a command is taken from `input.json` instead.
    """
    inline = len(_compact(document)) <= INLINE_LIMIT
    given = ['"Authorization": f"Bearer {os.environ[\'INFRA_TOKEN\']}"'] if needs_token else []
    given += [f'"Accept": "{_EVENTS}"'] if streaming else []
    asked = 'with httpx.stream(\n    "POST",\n' if streaming else "answer = httpx.post(\n"
    python = [
        "import os\n\n" if needs_token else "",
        f'import httpx\n\n{asked}    "{endpoint}",\n',
        f"    headers={{{', '.join(given)}}},\n" if given else "",
        "    json=" if inline else "    content=",
    ]
    script = [
        "" if inline else 'import { readFile } from "node:fs/promises";\n\n',
        f'const answer = await fetch("{endpoint}", {{\n  method: "POST",\n  headers: {{\n',
        "    Authorization: `Bearer ${process.env.INFRA_TOKEN}`,\n" if needs_token else "",
        f'    Accept: "{_EVENTS}",\n' if streaming else "",
        '    "Content-Type": "application/json",\n  },\n  body: ',
        "JSON.stringify(" if inline else "",
    ]
    shell = [
        f"curl {'-N ' if streaming else ''}{endpoint} \\\n",
        f"  -H 'Accept: {_EVENTS}' \\\n" if streaming else "",
        '  -H "Authorization: Bearer $INFRA_TOKEN" \\\n' if needs_token else "",
        "  -H 'Content-Type: application/json' \\\n  --data ",
    ]
    return (
        Snippet(
            id="snippet-curl",
            title="curl",
            before="".join(shell),
            writer="shell" if inline else "",
            document=shell_literal(document) if inline else "@input.json",
            after="\n",
        ),
        Snippet(
            id="snippet-python",
            title="Python",
            before="".join(python),
            writer="python" if inline else "",
            document=python_literal(document) if inline else 'open("input.json", "rb").read()',
            after=",\n    timeout=30,\n)" + (_PYTHON_EVENTS if streaming else _PYTHON_ANSWER),
        ),
        Snippet(
            id="snippet-javascript",
            title="JavaScript",
            before="".join(script),
            writer="javascript" if inline else "",
            document=_compact(document) if inline else 'await readFile("input.json")',
            after=f"{')' if inline else ''},\n}});\n"
            "if (!answer.ok) throw new Error(await answer.text());\n"
            + (_SCRIPT_EVENTS if streaming else "console.log(await answer.json());\n"),
        ),
    )
