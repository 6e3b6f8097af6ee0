"""Log lines are JSON, carry the request id, and never a secret."""

from __future__ import annotations

import re
from typing import Any

import structlog

_BEARER = re.compile(r"infra_[0-9A-Za-z]{8,}|(?i:bearer)\s+\S+")
_stamper = structlog.processors.TimeStamper(fmt="iso", utc=True)
_renderer = structlog.processors.JSONRenderer()


def configure() -> None:
    """Sends what our own code logs the way of the standard library, so that one formatter masks
    and writes every line."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _stamper,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def stamp(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Give a standard-library record its time, level and logger name."""
    event = structlog.stdlib.add_log_level(logger, method, event)  # type: ignore[assignment]
    event = structlog.stdlib.add_logger_name(logger, method, event)  # type: ignore[assignment]
    event = structlog.contextvars.merge_contextvars(logger, method, event)  # type: ignore[assignment]
    return dict(_stamper(logger, method, event))


def drop_private(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Mask anything that looks like a bearer token, wherever it was about to be written."""
    for key, value in event.items():
        if isinstance(value, str) and not key.startswith("_"):
            event[key] = _BEARER.sub("[token]", value)
    return event


def render(logger: Any, method: str, event: dict[str, Any]) -> str:
    """One JSON line, the exception (if any) folded in and masked."""
    event = dict(structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event))
    event = dict(structlog.processors.format_exc_info(logger, method, event))
    if isinstance(event.get("exception"), str):
        event["exception"] = _BEARER.sub("[token]", event["exception"])
    return str(_renderer(logger, method, event))
