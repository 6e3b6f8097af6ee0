"""Reading JSON bodies: bounded in depth, so that a deep document is refused and never crashes us.

The standard parser recurses on the C stack; py_ecc, which web3 imports, lifts Python's own guard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from rest_framework.parsers import BaseParser

from inframind.lib.problem import Problem


class StrictJSONParser(BaseParser):
    """``application/json`` by RFC 8259: no NaN, no Infinity, at most 254 levels deep."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Raises a ``Problem``: 413 above ``DATA_UPLOAD_MAX_MEMORY_SIZE``, 400 for no JSON."""
        limit_bytes = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(limit_bytes + 1)
        if len(body) > limit_bytes:
            raise Problem(
                "too-large",
                f"The request body is larger than {limit_bytes} bytes.",
                status=413,
                remedy="Send less.",
            )
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Problem(
                "malformed-json",
                f"The request body is not JSON: {error}.",
                remedy="Send one JSON document, encoded as UTF-8.",
            ) from None
