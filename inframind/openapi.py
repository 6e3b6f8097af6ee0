"""What every operation of the API has in common in its description: how it refuses."""

from __future__ import annotations

from typing import Any

from inframind.lib.problem import CONTENT_TYPE

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "detail", "charged", "retry_safe"],
    "properties": {
        "type": {"type": "string", "description": "Stable: /problems/<code>."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened."},
        "remedy": {"type": "string", "description": "What to do next."},
        "charged": {"type": ["boolean", "null"], "description": "null: not known yet."},
        "retry_safe": {"type": "boolean"},
        "retry_after_seconds": {"type": "integer"},
        "instance": {"type": "string"},
        "violations": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901 JSON pointer."},
                    "detail": {"type": "string"},
                    "remedy": {"type": "string"},
                    "line": {"type": "integer"},
                },
            },
        },
    },
}
_REFUSAL = {
    "description": "A refusal (RFC 9457): what happened, whether anything was charged, what next.",
    "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A drf-spectacular post-processing hook."""
    result.setdefault("components", {}).setdefault("schemas", {})["Problem"] = _PROBLEM
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"].setdefault("default", _REFUSAL)
    return result


def group_and_summarise(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A post-processing hook: tags by resource, the first sentence as the summary."""
    for path, operations in result["paths"].items():
        parts = path.removeprefix("/api/v1").strip("/").split("/")
        for operation in operations.values():
            operation["tags"] = [parts[0].partition(".")[0]]
            described = str(operation.get("description", "")).strip()
            if described:
                operation["summary"] = described.split(". ")[0].split("\n")[0].rstrip(".")
    return result
